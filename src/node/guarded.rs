//! Keeps a panic of the library's protocols to the connection that it happened on.
//!
//! They run in a task that the library has for each connection. If it unwinds, the swarm never
//! hears that the connection has ended: its place among the connections stays taken, and its peer
//! counts as connected for ever. So the panic is caught where the protocols are polled, and the
//! swarm is asked to close the connection.
//!
//! Behind a box they also cost their size once: the library's task has room for a connection twice.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, ready},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
        FromSwarm, NetworkBehaviour, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::ConnectionEvent,
    },
};

use crate::faults;

/// A behaviour whose handlers may panic.
#[derive(Debug)]
pub(super) struct Guarded<B> {
    inner: B,
    /// Connections to close. At most one entry each.
    panicked: Vec<(PeerId, ConnectionId)>,
}

impl<B> Guarded<B> {
    pub(super) fn new(inner: B) -> Self {
        Self {
            inner,
            panicked: Vec::new(),
        }
    }

    /// The behaviour itself.
    pub(super) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Guarded<B> {
    type ConnectionHandler = Handler<B::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
            .map(|inner| Handler::new(inner, peer))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner
            .handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
            .map(|inner| Handler::new(inner, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Ok(event) => self.inner.on_connection_handler_event(peer, id, event),
            Err(Panicked) => self.panicked.push((peer, id)),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, id)) = self.panicked.pop() {
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(id),
            });
        }
        self.inner.poll(cx)
    }
}

/// A handler has panicked and is never asked again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panicked;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Panicked,
    /// The behaviour knows.
    Told,
}

/// The handlers of one connection.
#[derive(Debug)]
pub(super) struct Handler<H> {
    inner: Box<H>,
    peer: PeerId,
    state: State,
}

impl<H> Handler<H> {
    fn new(inner: H, peer: PeerId) -> Self {
        Self {
            inner: Box::new(inner),
            peer,
            state: State::Well,
        }
    }

    /// What `ask` returns, unless it panics or an earlier one has.
    fn guard<T>(&mut self, ask: impl FnOnce(&mut H) -> T) -> Option<T> {
        if self.state != State::Well {
            return None;
        }
        // Nobody looks at the handler again after a panic.
        let answer = catch_unwind(AssertUnwindSafe(|| ask(&mut self.inner)));
        answer
            .inspect_err(|_| {
                self.state = State::Panicked;
                tracing::error!(peer = %self.peer, "a protocol has panicked: closing its connection");
            })
            .ok()
    }
}

type Event<H> = ConnectionHandlerEvent<
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::OutboundOpenInfo,
    Result<<H as ConnectionHandler>::ToBehaviour, Panicked>,
>;

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = Result<H::ToBehaviour, Panicked>;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event<H>> {
        let peer = self.peer;
        let event = self.guard(|inner| {
            faults::point(format_args!("protocol-{peer}"));
            inner.poll(cx)
        });
        match event {
            Some(event) => event.map(|event| event.map_custom(Ok)),
            None if self.state == State::Panicked => {
                self.state = State::Told;
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Err(Panicked)))
            }
            None => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match self.guard(|inner| inner.poll_close(cx)) {
            Some(event) => Poll::Ready(ready!(event).map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.guard(|inner| inner.on_behaviour_event(event));
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        self.guard(|inner| inner.on_connection_event(event));
    }
}
