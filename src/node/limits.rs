//! Hard limits on connections.
//!
//! The library's own behaviour for this keeps an entry for every peer id it has ever seen.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fmt,
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

/// Connections at most (SECURITY.md 3).
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Inbound connections still being secured.
    pub pending_inbound: usize,
    /// Dials under way.
    pub pending_outbound: usize,
    /// Established inbound connections.
    pub established_inbound: usize,
    /// Established connections.
    pub established: usize,
    /// Established connections with one peer.
    pub per_peer: usize,
}

impl ConnectionLimits {
    /// The defaults of a process that may open `descriptors` files: a quarter of them, so
    /// that pipes and control connections have theirs.
    #[must_use]
    pub fn scaled(descriptors: u64) -> Self {
        let share = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        Self {
            pending_inbound: 256,
            pending_outbound: 256,
            established_inbound: share.clamp(16, 2048),
            established: share.clamp(32, 4096),
            per_peer: 8,
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitReached {
    what: &'static str,
    limit: usize,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection limit reached: {} {}", self.limit, self.what)
    }
}

impl std::error::Error for LimitReached {}

/// Counts connections and denies those beyond a limit.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: ConnectionLimits,
    pending_inbound: HashSet<ConnectionId>,
    pending_outbound: HashSet<ConnectionId>,
    inbound: usize,
    established: usize,
    per_peer: HashMap<PeerId, usize>,
}

impl Limiter {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            pending_inbound: HashSet::new(),
            pending_outbound: HashSet::new(),
            inbound: 0,
            established: 0,
            per_peer: HashMap::new(),
        }
    }

    fn established(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        check("connections", self.established, self.limits.established)?;
        check(
            "connections per peer",
            self.per_peer.get(peer).copied().unwrap_or(0),
            self.limits.per_peer,
        )
    }
}

fn check(what: &'static str, current: usize, limit: usize) -> Result<(), ConnectionDenied> {
    if current < limit {
        return Ok(());
    }
    let reached = LimitReached { what, limit };
    tracing::debug!(%reached, "connection refused");
    Err(ConnectionDenied::new(reached))
}

impl NetworkBehaviour for Limiter {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        check(
            "pending inbound connections",
            self.pending_inbound.len(),
            self.limits.pending_inbound,
        )?;
        self.pending_inbound.insert(id);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&id);
        check(
            "inbound connections",
            self.inbound,
            self.limits.established_inbound,
        )?;
        self.established(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        check(
            "pending outbound connections",
            self.pending_outbound.len(),
            self.limits.pending_outbound,
        )?;
        self.pending_outbound.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_outbound.remove(&id);
        self.established(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established += 1;
                self.inbound += usize::from(event.endpoint.is_listener());
                *self.per_peer.entry(event.peer_id).or_default() += 1;
            }
            FromSwarm::ConnectionClosed(event) => {
                self.established = self.established.saturating_sub(1);
                if event.endpoint.is_listener() {
                    self.inbound = self.inbound.saturating_sub(1);
                }
                if event.remaining_established == 0 {
                    self.per_peer.remove(&event.peer_id);
                } else {
                    self.per_peer
                        .insert(event.peer_id, event.remaining_established);
                }
            }
            FromSwarm::DialFailure(event) => {
                self.pending_outbound.remove(&event.connection_id);
            }
            FromSwarm::ListenFailure(event) => {
                self.pending_inbound.remove(&event.connection_id);
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
