//! What autorelay does at one moment, and has done.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::reserve::Allowance;

/// What the finder is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing: strangers can dial this node.
    #[default]
    Idle,
    /// It looks for relays, or waits until one may be asked.
    Gather,
    /// It asks relays for places.
    Reserve,
    /// It holds the places it wants.
    Hold,
}

impl State {
    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Gather => "gather",
            Self::Reserve => "reserve",
            Self::Hold => "hold",
        }
    }
}

/// A place that a relay holds for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The relay.
    pub relay: PeerId,
    /// Whether the operator has named it.
    pub trusted: bool,
    /// When the place is over.
    pub expires: Instant,
    /// What a circuit may use, by the relay's word.
    pub allowance: Allowance,
    /// Where this node can be reached through it.
    pub addresses: Vec<Multiaddr>,
}

/// What has happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Places gained.
    pub opened: u64,
    /// Places lost.
    pub closed: u64,
    /// Requests for a place by kind (`new`, `refresh`) and outcome, in go-libp2p's words.
    pub requests: BTreeMap<(&'static str, &'static str), u64>,
    /// Changes of the addresses.
    pub updated: u64,
    /// Peers that were found and would do as relays, and those that would not.
    pub supported: (u64, u64),
    /// Candidates remembered and forgotten.
    pub candidates: (u64, u64),
}

/// Autorelay at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is doing.
    pub state: State,
    /// Found relays that hold no place: those to choose from.
    pub candidates: usize,
    /// Relays that hold a place, trusted ones first.
    pub reservations: Vec<Reservation>,
    /// How many places are wanted.
    pub desired: usize,
    /// So far.
    pub counts: Counts,
    /// Every trusted relay was asked once, or one holds a place.
    pub(super) settled: bool,
}
