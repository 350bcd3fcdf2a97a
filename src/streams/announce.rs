//! Tells identify which user protocols there are.
//!
//! identify lists what connection handlers listen for; this behaviour listens for the
//! registered names and does nothing else, since inbound streams are taken before they
//! reach the swarm.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::DeniedUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::ConnectionEvent,
    },
};
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use super::registry::Registry;

/// The behaviour; one per swarm.
#[derive(Debug)]
pub struct Announce(pub Arc<Registry>);

impl NetworkBehaviour for Announce {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(&self.0))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(&self.0))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// The behaviour's part of one connection.
#[derive(Debug)]
pub struct Handler {
    names: Names,
    changed: ReusableBoxFuture<'static, Option<Announced>>,
}

type Announced = watch::Receiver<Arc<[StreamProtocol]>>;

/// Waits for a change of what is announced. `None` once nothing changes any more.
async fn changed(mut announced: Announced) -> Option<Announced> {
    announced.changed().await.is_ok().then_some(announced)
}

impl Handler {
    fn new(registry: &Registry) -> Self {
        let mut announced = registry.announced();
        let names = Names(announced.borrow_and_update().clone());
        Self {
            names,
            changed: ReusableBoxFuture::new(changed(announced)),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(self.names.clone(), ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        // Being polled is enough: the connection then compares its protocol lists.
        while let Poll::Ready(announced) = self.changed.poll(cx) {
            match announced {
                Some(mut announced) => {
                    self.names = Names(announced.borrow_and_update().clone());
                    self.changed.set(changed(announced));
                }
                None => self.changed.set(std::future::pending()),
            }
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, Names, DeniedUpgrade>) {}
}

/// The registered names as an upgrade, of which a stream never comes.
#[derive(Debug, Clone)]
pub struct Names(Arc<[StreamProtocol]>);

impl libp2p::core::UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        Vec::from(&*self.0).into_iter()
    }
}

impl libp2p::core::upgrade::InboundUpgrade<libp2p::Stream> for Names {
    type Output = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    /// Only a stream whose handler vanished in mid-negotiation gets here; it is reset.
    fn upgrade_inbound(self, _: libp2p::Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(()))
    }
}
