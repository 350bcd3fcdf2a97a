//! A peer as the router sees it.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{super::rpc_queue::RpcQueue, super::seen::IdHash, members::PeerTopics};

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum PeerKind {
    Floodsub,
    /// `/meshsub/1.0.0`: a PRUNE has no back-off in it.
    Gossipsub10,
    Gossipsub11,
}

/// A peer that speaks pubsub, or has opened a stream of it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) queue: Arc<RpcQueue>,
    /// `None` until there is a stream to it.
    pub(super) kind: Option<PeerKind>,
    /// Whether a task writes to it.
    pub(super) has_writer: bool,
    /// Ends the stream that the peer writes, which is served under this number.
    pub(super) inbound: Option<(u64, CancellationToken)>,
    /// What it is subscribed to.
    pub(super) topics: PeerTopics,
    /// Whether it was dialed from here.
    pub(super) outbound: bool,
    /// The address prefix that its memory is counted by.
    pub(super) prefix: Option<IpAddr>,
    /// What it has done since the last heartbeat.
    pub(super) used: Used,
}

/// What a peer has done since the last heartbeat.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// RPCs with IHAVE.
    pub(super) ihave: usize,
    /// Ids that IWANT has requested of it.
    pub(super) iwant_sent: usize,
    /// Ids that it has requested.
    pub(super) iwant_received: usize,
    /// Messages that it was sent because it subscribed.
    pub(super) replayed: usize,
    /// Whether it has had its penalty for too much control.
    pub(super) penalized: bool,
    /// How often it has requested a message, in this heartbeat and the one before.
    requests: [HashMap<IdHash, u8>; 2],
}

impl Used {
    /// A heartbeat has passed.
    pub(super) fn shift(&mut self) {
        let [now, _] = std::mem::take(&mut self.requests);
        *self = Self {
            requests: [HashMap::new(), now],
            ..Self::default()
        };
    }

    /// Counts a request for a message. Returns how often it has been requested.
    pub(super) fn request(&mut self, id: IdHash) -> u8 {
        let before = self.requests[1].get(&id).copied().unwrap_or(0);
        let count = self.requests[0].entry(id).or_insert(before);
        *count = count.saturating_add(1);
        *count
    }
}
