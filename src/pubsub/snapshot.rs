//! What pubsub knows at one moment, for reports and metrics.

use std::{collections::BTreeMap, sync::Arc};

use libp2p::PeerId;

/// The state of pubsub at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Peers that speak pubsub.
    pub peers: Vec<PeerSnapshot>,
    /// Topics that this node takes part in, as a subscriber or as a publisher.
    pub topics: BTreeMap<Arc<[u8]>, TopicSnapshot>,
    /// Messages that clients here have published.
    pub published: u64,
    /// Messages queued for subscribers here, counted once for each.
    pub delivered: u64,
    /// Messages that subscribers here lost because they read too slowly.
    pub lost_by_subscribers: u64,
    /// Messages that peers lost because they read too slowly.
    pub lost_by_peers: u64,
    /// Messages of peers that were seen before.
    pub duplicates: u64,
    /// Messages of peers that did not validate.
    pub rejected: u64,
}

/// One peer that speaks pubsub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Its id.
    pub peer: PeerId,
    /// Topics that it is subscribed to.
    pub topics: usize,
    /// Bytes of messages that wait to be sent to it.
    pub queued: usize,
}

/// One topic that this node takes part in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// Subscriptions of clients here.
    pub subscribers: usize,
    /// Peers that are subscribed to it.
    pub peers: usize,
    /// Peers in its mesh.
    pub mesh: usize,
    /// Peers in its fanout.
    pub fanout: usize,
}
