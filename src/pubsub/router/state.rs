//! The peers and topics that a router knows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use libp2p::PeerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::{
    message::Message,
    message_cache::MessageCache,
    rpc_queue::RpcQueue,
    seen::Seen,
    snapshot::{PeerSnapshot, Snapshot},
};

/// Subscriptions that one peer may be subscribed to (SECURITY.md 3).
pub(super) const MAX_PEER_TOPICS: usize = 10_000;

/// Bytes of their names.
pub(super) const MAX_PEER_NAMES: usize = 1 << 20;

/// Bytes of the names of all peers' topics.
const MAX_NAMES: usize = 64 << 20;

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum PeerKind {
    Floodsub,
    /// `/meshsub/1.0.0`: a PRUNE has no time in it.
    Gossipsub10,
    Gossipsub11,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) queue: Arc<RpcQueue>,
    /// `None` until there is a stream to it.
    pub(super) kind: Option<PeerKind>,
    /// Whether a task looks after the stream to it.
    pub(super) has_writer: bool,
    /// Ends the stream from it, which is served under this number.
    pub(super) inbound: Option<(u64, CancellationToken)>,
    pub(super) topics: HashSet<Arc<str>>,
    /// Bytes of their names.
    pub(super) names: usize,
    /// Whether it was dialed from here.
    pub(super) dialed: bool,
    /// What it told of in this heartbeat, and what it was asked for.
    pub(super) ihave: usize,
    pub(super) iwant: usize,
    /// Subscriptions of which it got what it had missed, in this heartbeat.
    pub(super) replays: usize,
}

#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Whether there are subscribers here.
    pub(super) joined: bool,
    pub(super) peers: HashSet<PeerId>,
    /// Those of them that get every message.
    pub(super) floodsub_peers: HashSet<PeerId>,
    pub(super) mesh: HashSet<PeerId>,
    pub(super) fanout: Option<Fanout>,
    /// Until when a peer is not taken into the mesh.
    pub(super) backoff: HashMap<PeerId, Instant>,
}

/// Peers that messages of this daemon's clients are sent to while nobody here is subscribed.
#[derive(Debug)]
pub(super) struct Fanout {
    pub(super) peers: HashSet<PeerId>,
    pub(super) last_published: Instant,
}

impl Topic {
    pub(super) fn is_unused(&self) -> bool {
        !self.joined && self.peers.is_empty() && self.fanout.is_none() && self.backoff.is_empty()
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) peers: HashMap<PeerId, Peer>,
    pub(super) topics: HashMap<Arc<str>, Topic>,
    pub(super) seen: Seen,
    pub(super) mcache: MessageCache,
    /// Bytes of the names of all peers' topics.
    pub(super) names: usize,
    pub(super) reads: u64,
}

impl State {
    pub(super) fn entry(&mut self, peer: PeerId, room: &Arc<Notify>) -> &mut Peer {
        self.peers.entry(peer).or_insert_with(|| Peer {
            queue: Arc::new(RpcQueue::new(room.clone())),
            kind: None,
            has_writer: false,
            inbound: None,
            topics: HashSet::new(),
            names: 0,
            dialed: false,
            ihave: 0,
            iwant: 0,
            replays: 0,
        })
    }

    /// A stream to a peer begins with all topics.
    pub(super) fn hello(&self, queue: &RpcQueue) {
        let joined = self.topics.iter().filter(|(_, topic)| topic.joined);
        queue.hello(joined.map(|(name, _)| name.clone()));
    }

    pub(super) fn topics_of(&self, peer: &PeerId) -> Vec<Arc<str>> {
        let peer = self.peers.get(peer);
        peer.map_or_else(Vec::new, |peer| peer.topics.iter().cloned().collect())
    }

    /// Whom the message is sent to.
    pub(super) fn recipients(
        &mut self,
        message: &Message,
        source: Option<PeerId>,
        flood: bool,
        now: Instant,
    ) -> Vec<Arc<RpcQueue>> {
        if source.is_none() && !flood {
            self.refill_fanout(message.topic(), now);
        }
        let Some(topic) = self.topics.get(message.topic()) else {
            return Vec::new();
        };
        let chosen = match (&topic.fanout, topic.joined) {
            _ if flood => &topic.peers,
            (_, true) => &topic.mesh,
            (Some(fanout), false) => &fanout.peers,
            (None, false) => return Vec::new(),
        };
        let floodsub_peers = topic
            .floodsub_peers
            .iter()
            .filter(|peer| !chosen.contains(*peer));
        chosen
            .iter()
            .chain(floodsub_peers)
            .filter(|peer| Some(**peer) != source && Some(**peer) != message.author())
            .filter_map(|peer| self.peers.get(peer))
            .filter(|peer| peer.has_writer)
            .map(|peer| peer.queue.clone())
            .collect()
    }

    /// `peer` is subscribed to `topic`; false if it has too many topics.
    pub(super) fn subscribed(&mut self, peer: PeerId, topic: &str) -> bool {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return false;
        };
        if entry.topics.contains(topic) {
            return true;
        }
        let len = topic.len();
        if entry.topics.len() >= MAX_PEER_TOPICS
            || entry.names + len > MAX_PEER_NAMES
            || self.names + len > MAX_NAMES
        {
            return false;
        }
        let known = self.topics.get_key_value(topic);
        let name: Arc<str> = known.map_or_else(|| topic.into(), |(name, _)| name.clone());
        entry.topics.insert(name.clone());
        entry.names += len;
        self.names += len;
        let floodsub_peers = entry.kind == Some(PeerKind::Floodsub);
        let topic = self.topics.entry(name).or_default();
        topic.peers.insert(peer);
        if floodsub_peers {
            topic.floodsub_peers.insert(peer);
        }
        true
    }

    pub(super) fn unsubscribed(&mut self, peer: PeerId, topic: &str) {
        if let Some(entry) = self.peers.get_mut(&peer)
            && entry.topics.remove(topic)
        {
            entry.names -= topic.len();
            self.names -= topic.len();
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.peers.remove(&peer);
            known.floodsub_peers.remove(&peer);
            known.mesh.remove(&peer);
            if let Some(fanout) = &mut known.fanout {
                fanout.peers.remove(&peer);
            }
            if known.is_unused() {
                self.topics.remove(topic);
            }
        }
    }

    pub(super) fn fill(&self, snapshot: &mut Snapshot) {
        let peers = self.peers.iter().filter(|(_, peer)| peer.has_writer);
        let peers = peers.map(|(id, peer)| PeerSnapshot {
            peer: *id,
            topics: peer.topics.len(),
            queued: peer.queue.bytes(),
        });
        snapshot.peers = peers.collect();
        let own = |topic: &&Topic| topic.joined || topic.fanout.is_some();
        for (name, topic) in self.topics.iter().filter(|(_, topic)| own(topic)) {
            let entry = snapshot.topics.entry(name.to_string()).or_default();
            entry.peers = topic.peers.len();
            entry.mesh = topic.mesh.len();
            entry.fanout = topic.fanout.as_ref().map_or(0, |fanout| fanout.peers.len());
        }
    }

    pub(super) fn forget_if_gone(&mut self, peer: PeerId) {
        let gone = |peer: &Peer| !peer.has_writer && peer.inbound.is_none();
        if self.peers.get(&peer).is_some_and(gone) {
            for topic in self.topics_of(&peer) {
                self.unsubscribed(peer, &topic);
            }
            self.peers.remove(&peer);
        }
    }
}
