//! What happens in the daemon, for clients that follow it (PROTOCOL.md 2).
//!
//! There is one log for all who follow. Each has a place of its own in it: an event is recorded once,
//! however many follow, and one who does not keep up delays nobody. The log is bounded, and whoever
//! is overtaken by its end is told how many events that were. While nobody follows, nothing is
//! recorded.

mod follower;
mod kind;
mod limits;
mod log;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::Notify;

pub use follower::{Followed, Follower};
pub use kind::{Kind, Kinds};
use log::Log;

use crate::wire::maddr::ControlAddr;

/// A connection, as events tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Never used twice in one run of the daemon.
    pub id: u64,
    /// The remote address, without `/p2p` of the peer.
    pub remote: Multiaddr,
    /// Whether this side dialed.
    pub dialed: bool,
    /// Whether it runs through a relay.
    pub relayed: bool,
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// This daemon has closed it.
    Local,
    /// The peer has closed it.
    Remote,
    /// The peer did not answer in time.
    Timeout,
    /// It broke, for this reason.
    Broken(String),
}

/// Whether strangers can dial the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody has said yet.
    Undecided,
    /// They can.
    Public,
    /// They cannot.
    Private,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is a new connection to a peer.
    PeerConnected {
        /// Which one.
        peer: PeerId,
        /// The new one.
        connection: Connection,
        /// How many there are now.
        connections: usize,
    },
    /// A peer has told what it is.
    PeerIdentified {
        /// Which one.
        peer: PeerId,
        /// What it says of its program, 128 bytes at most.
        agent: Option<Arc<str>>,
        /// What it speaks.
        protocols: Arc<[String]>,
        /// Where it listens.
        addresses: Vec<Multiaddr>,
    },
    /// A connection to a peer has ended.
    PeerDisconnected {
        /// Which one.
        peer: PeerId,
        /// The one that has ended.
        connection: Connection,
        /// How many are left.
        connections: usize,
        /// Why.
        cause: CloseReason,
    },
    /// These are the daemon's own addresses from now on.
    Addresses(Arc<[Multiaddr]>),
    /// Whether strangers can dial the daemon has changed.
    Reachability(Reachability),
    /// A handler did not take a stream.
    HandlerFailed {
        /// Who opened the stream.
        peer: PeerId,
        /// For what.
        protocol: Bytes,
        /// Where the handler should listen.
        handler: ControlAddr,
        /// Why it did not.
        reason: String,
    },
    /// A peer, or the daemon itself, has subscribed to a topic.
    TopicJoined {
        /// `None` for the daemon itself.
        peer: Option<PeerId>,
        /// Which one.
        topic: Arc<[u8]>,
    },
    /// A peer, or the daemon itself, has unsubscribed from a topic.
    TopicLeft {
        /// `None` for the daemon itself.
        peer: Option<PeerId>,
        /// Which one.
        topic: Arc<[u8]>,
    },
    /// A limit was reached.
    Limit {
        /// Its label in metrics.
        limit: String,
        /// How often within the last second.
        count: u64,
    },
    /// A connection of a tunnel has failed or was refused.
    TunnelFailed {
        /// Who is at the other end.
        peer: PeerId,
        /// By what it is carried.
        protocol: Bytes,
        /// Where the tunnel listens or leads.
        addr: ControlAddr,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// What kind of event it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::PeerConnected { .. } => Kind::PeerConnected,
            Self::PeerIdentified { .. } => Kind::PeerIdentified,
            Self::PeerDisconnected { .. } => Kind::PeerDisconnected,
            Self::Addresses(_) => Kind::Addresses,
            Self::Reachability(_) => Kind::Reachability,
            Self::HandlerFailed { .. } => Kind::HandlerFailed,
            Self::TopicJoined { .. } => Kind::TopicJoined,
            Self::TopicLeft { .. } => Kind::TopicLeft,
            Self::Limit { .. } => Kind::Limit,
            Self::TunnelFailed { .. } => Kind::TunnelFailed,
        }
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn size(&self) -> usize {
        /// For the event itself, its place in the log, and a peer id.
        const BASE: usize = 256;
        /// For an entry of a list.
        const ENTRY: usize = 48;
        let addresses = |list: &[Multiaddr]| list.iter().map(|one| ENTRY + one.len()).sum();
        BASE + match self {
            Self::PeerConnected { connection, .. } => connection.remote.len(),
            Self::PeerDisconnected {
                connection, cause, ..
            } => {
                let reason = match cause {
                    CloseReason::Broken(reason) => reason.len(),
                    _ => 0,
                };
                connection.remote.len() + reason
            }
            Self::PeerIdentified {
                protocols,
                addresses: own,
                ..
            } => {
                let names: usize = protocols.iter().map(|name| ENTRY + name.len()).sum();
                let own: usize = addresses(own);
                names + own
            }
            Self::Addresses(own) => addresses(own),
            Self::HandlerFailed {
                protocol, reason, ..
            }
            | Self::TunnelFailed {
                protocol, reason, ..
            } => protocol.len() + reason.len() + ENTRY,
            Self::TopicJoined { topic, .. } | Self::TopicLeft { topic, .. } => topic.len(),
            Self::Reachability(_) | Self::Limit { .. } => 0,
        }
    }
}

/// An event, and when it happened.
#[derive(Debug)]
pub struct Entry {
    /// What has happened.
    pub event: Event,
    /// In microseconds after 1970-01-01 UTC. Never earlier than that of an event before.
    pub time: u64,
}

/// Where events are told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    log: Log,
    /// Somebody follows who did not before.
    joined: Notify,
}

impl Events {
    /// Whether anybody wants to know of such events. Takes no lock.
    #[must_use]
    pub fn wants(&self, kind: Kind) -> bool {
        self.0.log.wants(kind)
    }

    /// Tells of an event, if anybody wants to know.
    pub fn tell(&self, kind: Kind, event: impl FnOnce() -> Event) {
        if self.wants(kind) {
            self.0.log.add(event());
        }
    }

    /// Follows events of these kinds, from now on.
    #[must_use]
    pub fn follow(&self, kinds: Kinds) -> Follower {
        let follower = Follower::new(self.0.clone(), kinds);
        self.0.joined.notify_waiters();
        follower
    }
}

/// The time of day in microseconds after 1970-01-01 UTC.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
