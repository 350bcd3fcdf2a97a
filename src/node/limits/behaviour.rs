//! Limits on established connections and on dials.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use super::admission::Admission;
use crate::limit_hits::Limit;

/// A limit that was reached.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("connection limit reached: {limit} {what}")]
struct LimitReached {
    what: &'static str,
    limit: usize,
}

/// Counts connections and denies those beyond a limit.
#[derive(Debug)]
pub(in crate::node) struct Limiter {
    admission: Arc<Admission>,
    dials: HashSet<ConnectionId>,
    outbound: usize,
    established: usize,
    per_peer: HashMap<PeerId, usize>,
}

impl Limiter {
    /// By the limits of `admission`, which is told of the connections that were dialed.
    pub(in crate::node) fn new(admission: Arc<Admission>) -> Self {
        Self {
            admission,
            dials: HashSet::new(),
            outbound: 0,
            established: 0,
            per_peer: HashMap::new(),
        }
    }

    /// A connection with `peer` at `remote` is through its handshake, during which rules may have
    /// changed.
    fn established(
        &self,
        peer: &PeerId,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let limits = self.admission.limits();
        self.admission.allows(peer).map_err(ConnectionDenied::new)?;
        let at = self.admission.allows_address(remote);
        at.map_err(ConnectionDenied::new)?;
        if let Some(limit) = self.admission.max_connections(peer) {
            let current = self.per_peer.get(peer).copied().unwrap_or(0);
            check(Limit::TrafficConnections, "connections", current, limit)?;
        }
        check(
            Limit::Established,
            "connections",
            self.established,
            limits.established,
        )?;
        check(
            Limit::PerPeer,
            "connections per peer",
            self.per_peer.get(peer).copied().unwrap_or(0),
            limits.per_peer,
        )?;
        Ok(dummy::ConnectionHandler)
    }
}

fn check(
    counter: Limit,
    what: &'static str,
    current: usize,
    limit: usize,
) -> Result<(), ConnectionDenied> {
    if current < limit {
        return Ok(());
    }
    counter.hit();
    Err(ConnectionDenied::new(LimitReached { what, limit }))
}

impl NetworkBehaviour for Limiter {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.established(&peer, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.admission
                .allows(&peer)
                .map_err(ConnectionDenied::new)?;
        }
        check(
            Limit::PendingOutbound,
            "pending outbound connections",
            self.dials.len(),
            self.admission.limits().pending_outbound,
        )?;
        self.dials.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dials.remove(&id);
        self.established(&peer, remote)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established += 1;
                if event.endpoint.is_dialer() {
                    self.outbound += 1;
                    self.admission.set_outbound(self.outbound);
                }
                *self.per_peer.entry(event.peer_id).or_default() += 1;
            }
            FromSwarm::ConnectionClosed(event) => {
                self.established = self.established.saturating_sub(1);
                if event.endpoint.is_dialer() {
                    self.outbound = self.outbound.saturating_sub(1);
                    self.admission.set_outbound(self.outbound);
                }
                if event.remaining_established == 0 {
                    self.per_peer.remove(&event.peer_id);
                } else {
                    self.per_peer
                        .insert(event.peer_id, event.remaining_established);
                }
            }
            FromSwarm::DialFailure(event) => {
                self.dials.remove(&event.connection_id);
            }
            _ => {}
        }
    }

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
