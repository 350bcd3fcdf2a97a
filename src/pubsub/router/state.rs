//! What a router knows: peers, the topics that this node takes part in, and recent messages.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use libp2p::PeerId;
use tokio::sync::Notify;

use super::{
    super::{message::Message, message_cache::MessageCache, rpc_queue::RpcQueue, seen::Seen},
    members::Members,
    peer::{Peer, PeerKind, Used},
    promises::Promises,
    score::{Offence, Scores},
};
use crate::{limit_hits::Limit, memory::Account};

/// A topic that this node takes part in: clients here are subscribed to it or publish on it, or
/// peers are to stay out of its mesh for a while. What peers say never makes one.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Whether there are subscribers here.
    pub(super) joined: bool,
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
    fn forget(&mut self, peer: &PeerId) {
        self.mesh.remove(peer);
        if let Some(fanout) = &mut self.fanout {
            fanout.peers.remove(peer);
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        !self.joined && self.fanout.is_none() && self.backoff.is_empty()
    }
}

type Reporter = Box<dyn Fn(&PeerId, Offence) + Send>;

/// Is told of peers that have lost their place in the mesh by what they did.
#[derive(Default)]
pub(super) struct Report(pub(super) Option<Reporter>);

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) report: Report,
    pub(super) peers: HashMap<PeerId, Peer>,
    /// Which peers are subscribed to which topics.
    pub(super) members: Members,
    /// Topics that this node takes part in.
    pub(super) topics: HashMap<Arc<[u8]>, Topic>,
    /// Back-offs of all topics.
    pub(super) backoffs: usize,
    /// Peers that get every message of their topics: those that speak floodsub, and those of which
    /// it is not known yet what they speak. The latter are in no mesh, and would not hear of a
    /// message by gossip once they are in one.
    pub(super) flooded: HashSet<PeerId>,
    pub(super) seen: Seen,
    pub(super) mcache: MessageCache,
    pub(super) scores: Scores,
    pub(super) promises: Promises,
    pub(super) inbound_streams: u64,
}

impl State {
    /// The entry of a peer, made if there is none.
    pub(super) fn entry(
        &mut self,
        peer: PeerId,
        account: &Arc<Account>,
        room: &Arc<Notify>,
    ) -> &mut Peer {
        let (members, flooded) = (&mut self.members, &mut self.flooded);
        self.peers.entry(peer).or_insert_with(|| {
            flooded.insert(peer);
            let queue = Arc::new(RpcQueue::new(room.clone()));
            // Nothing is taken before there is a stream.
            queue.progress(false);
            Peer {
                queue,
                kind: None,
                has_writer: false,
                inbound: None,
                topics: members.add_peer(peer, account),
                outbound: false,
                prefix: account.prefix(),
                used: Used::default(),
            }
        })
    }

    /// Announces all topics on a new stream.
    pub(super) fn hello(&self, queue: &RpcQueue) {
        let joined = self.topics.iter().filter(|(_, topic)| topic.joined);
        queue.hello(joined.map(|(name, _)| name.clone()));
    }

    /// The queues of the peers that a message is sent to.
    pub(super) fn recipients(
        &mut self,
        message: &Message,
        source: Option<PeerId>,
        flood: bool,
        now: Instant,
    ) -> Vec<Arc<RpcQueue>> {
        let name = message.topic();
        let fits = |peer: &PeerId| Some(*peer) != source && Some(*peer) != message.author();
        let queue = |peer: PeerId| Some(self.peers.get(&peer)?.queue.clone());
        if flood {
            let peers = self.members.of(name).filter(fits);
            return peers.filter_map(queue).collect();
        }
        if source.is_none() {
            self.refill_fanout(name, now);
        }
        let Some(topic) = self.topics.get(name) else {
            return Vec::new();
        };
        let chosen = match (&topic.fanout, topic.joined) {
            (_, true) => &topic.mesh,
            (Some(fanout), false) => &fanout.peers,
            (None, false) => return Vec::new(),
        };
        let queue = |peer: PeerId| Some(self.peers.get(&peer)?.queue.clone());
        let flooded = self.flooded.iter();
        let flooded =
            flooded.filter(|peer| !chosen.contains(*peer) && self.is_subscribed(peer, name));
        let peers = chosen.iter().chain(flooded).copied();
        peers.filter(fits).filter_map(queue).collect()
    }

    /// Whether `peer` is subscribed to `topic`.
    pub(super) fn is_subscribed(&self, peer: &PeerId, topic: &[u8]) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|peer| self.members.contains(topic, &peer.topics))
    }

    /// `peer` is subscribed to `topic`. False if there is no room for that.
    pub(super) fn subscribed(&mut self, peer: PeerId, topic: &[u8]) -> bool {
        let entry = self.peers.get_mut(&peer);
        entry.is_some_and(|entry| self.members.subscribe(&mut entry.topics, topic))
    }

    /// `peer` is no longer subscribed to `topic`.
    pub(super) fn unsubscribed(&mut self, peer: PeerId, topic: &[u8]) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            self.members.unsubscribe(&mut entry.topics, topic);
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.forget(&peer);
        }
    }

    /// Takes note of what `peer` did wrong.
    pub(super) fn penalize(&mut self, peer: PeerId, offence: Offence) {
        let score = self.scores.penalize(peer, offence, Instant::now());
        Limit::PubsubScore.hit();
        tracing::debug!(%peer, ?offence, score, "a pubsub peer breaks a rule");
        // An honest peer does some of it.
        if score < 0.0
            && let Report(Some(report)) = &self.report
        {
            report(&peer, offence);
        }
    }

    /// Takes note of too much control, once a heartbeat.
    pub(super) fn penalize_control(&mut self, peer: PeerId) {
        let entry = self.peers.get_mut(&peer);
        let first = entry.is_some_and(|entry| !std::mem::replace(&mut entry.used.penalized, true));
        if first {
            self.penalize(peer, Offence::TooMuchControl);
        }
    }

    /// Forgets a peer that has neither stream. Its topics are left to [`Members::sweep`].
    pub(super) fn forget_if_gone(&mut self, peer: PeerId) {
        let gone = |peer: &Peer| !peer.has_writer && peer.inbound.is_none();
        if !self.peers.get(&peer).is_some_and(gone) {
            return;
        }
        self.flooded.remove(&peer);
        let Some(entry) = self.peers.remove(&peer) else {
            return;
        };
        // It is in no mesh and no fanout but those of its topics.
        if entry.topics.len() < self.topics.len() {
            for name in entry.topics.names() {
                if let Some(topic) = self.topics.get_mut(name) {
                    topic.forget(&peer);
                }
            }
        } else {
            self.topics
                .values_mut()
                .for_each(|topic| topic.forget(&peer));
        }
        self.members.remove_peer(entry.topics);
    }

    /// What the peers of each address prefix have queued.
    pub(super) fn queues(&self) -> Vec<(Option<IpAddr>, Arc<RpcQueue>)> {
        let peers = self.peers.values();
        peers
            .map(|peer| (peer.prefix, peer.queue.clone()))
            .collect()
    }

    /// Takes note of a new stream of this kind to `peer`.
    pub(super) fn set_kind(&mut self, peer: PeerId, kind: PeerKind, outbound: bool) -> bool {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return false;
        };
        entry.kind = Some(kind);
        entry.outbound = outbound;
        if kind == PeerKind::Floodsub {
            self.flooded.insert(peer);
        } else {
            self.flooded.remove(&peer);
        }
        true
    }
}
