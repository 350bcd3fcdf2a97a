//! One address of a peer that is being dialed.

use libp2p::{Multiaddr, swarm::ConnectionId};
use tokio::time::Instant;

use super::{Cause, ranking::History};
use crate::node::address_filter::Scope;

/// On whose word an address is dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Origin {
    /// A local client or the operator named it, or it has led to the peer before.
    Given,
    /// A peer of this scope told it.
    Told(Scope),
    /// Peers told it. Which ones is not known here.
    Hearsay,
}

/// An address to dial.
#[derive(Debug, Clone)]
pub(in crate::node) struct Candidate {
    pub(in crate::node) address: Multiaddr,
    pub(in crate::node) origin: Origin,
    pub(in crate::node) history: History,
}

impl Candidate {
    /// An address without a history.
    pub(in crate::node) fn new(address: Multiaddr, origin: Origin) -> Self {
        Self {
            address,
            origin,
            history: History::Unknown,
        }
    }
}

/// What has become of a target.
#[derive(Debug)]
pub(super) enum State {
    /// Its name is being looked up, and stands for these at least.
    Resolving(Vec<Multiaddr>),
    /// Its name stands for these.
    Resolved(Vec<Multiaddr>),
    /// To be dialed at this time.
    Waiting(Instant),
    /// Being dialed.
    Running(ConnectionId),
    /// This is why not.
    Failed(Cause),
    /// It is this host's own, or must not be dialed.
    Dropped,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: Multiaddr,
    pub(super) state: State,
    /// Dialed from a port of its own, not from one that is listened on.
    pub(super) own_port: bool,
}

impl Target {
    pub(super) fn new(address: Multiaddr, state: State) -> Self {
        Self {
            address,
            state,
            own_port: false,
        }
    }

    /// Whether it has come to nothing.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Dropped)
    }
}
