//! Meshes: the peers that get the messages of a topic at once.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::{
    super::rpc_queue::MeshChange,
    Router,
    peer::{Peer, PeerKind},
    score::Offence,
    state::{Fanout, State},
};

use crate::fixed_limits::fixed_limit;

/// Peers in a mesh.
pub(super) const D: usize = 6;

/// A mesh with fewer peers is filled up.
pub(super) const D_LOW: usize = 5;

/// A mesh with more peers is cut.
pub(super) const D_HIGH: usize = 12;

/// Places in a mesh for peers that were dialed from here. Peers that dialed this node get none of
/// them (SECURITY.md 3).
pub(super) const D_OUT: usize = 2;
fixed_limit!("pubsub: places in a mesh for outbound peers alone", D_OUT);

/// How long a fanout is kept after the last message.
const FANOUT_TTL: Duration = Duration::from_secs(60);

/// Back-off after a PRUNE.
pub(super) const PRUNE_BACKOFF: Duration = Duration::from_secs(60);

/// Back-off after the last subscriber here has left.
const UNSUBSCRIBE_BACKOFF: Duration = Duration::from_secs(10);

/// Longest back-off that a peer may ask for.
const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// Back-offs remembered of one topic (SECURITY.md 3). Further ones are not.
const MAX_BACKOFFS: usize = 4096;
fixed_limit!("pubsub: back-offs remembered of one topic", MAX_BACKOFFS);

/// The same, of all topics (SECURITY.md 3).
const MAX_ALL_BACKOFFS: usize = 16_384;
fixed_limit!(
    "pubsub: back-offs remembered of all topics",
    MAX_ALL_BACKOFFS
);

impl Router {
    /// Maintains meshes, sends gossip, and forgets what is old. Its work depends on the topics that
    /// this node takes part in and on the number of peers, not on what peers say.
    pub(in super::super) fn heartbeat(&self) {
        let now = Instant::now();
        let mut dropped = 0;
        let mut state = self.state();
        let state = &mut *state;
        for peer in state.peers.values_mut() {
            peer.used.shift();
            dropped += peer.queue.drop_stuck();
        }
        for peer in state.promises.broken(now) {
            if state.peers.contains_key(&peer) {
                state.penalize(peer, Offence::BrokenPromise);
            }
        }
        state.scores.expire(now);
        state.seen.expire(now);
        let names: Vec<_> = state.topics.keys().cloned().collect();
        for name in &names {
            state.expire_backoffs(name, now);
            if !self.flood {
                state.expire_fanout(name, now);
                state.maintain_mesh(name, now);
            }
        }
        if !self.flood {
            state.emit_gossip(now);
        }
        state.mcache.shift();
        state.topics.retain(|_, topic| !topic.is_unused());
        self.count_unsent(dropped);
    }
}

/// Whether a peer takes part in meshes.
pub(super) fn is_gossipsub(peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| {
        matches!(
            peer.kind,
            Some(PeerKind::Gossipsub10 | PeerKind::Gossipsub11)
        )
    })
}

/// Some of `peers`, chosen at random.
pub(super) fn sample(peers: &[PeerId], count: usize) -> Vec<PeerId> {
    peers
        .choose_multiple(&mut rand::rng(), count)
        .copied()
        .collect()
}

impl State {
    /// Whether `peer`, which is subscribed to the topic, may be in its mesh or fanout.
    fn is_candidate(&self, topic: &[u8], peer: &PeerId, now: Instant) -> bool {
        let backs_off = self.topics.get(topic).is_some_and(|topic| {
            let until = topic.backoff.get(peer);
            until.is_some_and(|until| *until > now)
        });
        !backs_off && is_gossipsub(self.peers.get(peer)) && self.scores.may_mesh(peer, now)
    }

    /// Peers that could join the mesh of a topic, or its fanout.
    fn candidates(&self, topic: &[u8], without: &HashSet<PeerId>, now: Instant) -> Vec<PeerId> {
        let peers = self.members.of(topic);
        peers
            .filter(|peer| !without.contains(peer) && self.is_candidate(topic, peer, now))
            .collect()
    }

    fn mesh_of(&self, topic: &[u8]) -> HashSet<PeerId> {
        let topic = self.topics.get(topic);
        topic.map_or_else(HashSet::new, |topic| topic.mesh.clone())
    }

    fn graft(&mut self, name: &Arc<[u8]>, peers: &[PeerId]) {
        for peer in peers {
            if let (Some(topic), Some(entry)) = (self.topics.get_mut(name), self.peers.get(peer))
                && topic.mesh.insert(*peer)
            {
                entry.queue.mesh(name, MeshChange::Graft);
            }
        }
    }

    pub(super) fn prune(&mut self, name: &Arc<[u8]>, peer: PeerId, backoff: Duration) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.mesh.remove(&peer);
        }
        self.add_backoff(name, peer, backoff);
        if let Some(entry) = self.peers.get(&peer) {
            let backoff = (entry.kind != Some(PeerKind::Gossipsub10)).then_some(backoff);
            entry.queue.mesh(name, MeshChange::Prune { backoff });
        }
    }

    /// Does not take `peer` into the mesh for this time. A longer one that runs stays.
    pub(super) fn add_backoff(&mut self, name: &[u8], peer: PeerId, time: Duration) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        let until = Instant::now() + time.min(MAX_BACKOFF);
        if let Some(known) = topic.backoff.get_mut(&peer) {
            *known = (*known).max(until);
        } else if topic.backoff.len() < MAX_BACKOFFS && self.backoffs < MAX_ALL_BACKOFFS {
            topic.backoff.insert(peer, until);
            self.backoffs += 1;
        }
    }

    fn expire_backoffs(&mut self, name: &[u8], now: Instant) {
        if let Some(topic) = self.topics.get_mut(name) {
            let before = topic.backoff.len();
            topic.backoff.retain(|_, until| *until > now);
            self.backoffs -= before - topic.backoff.len();
        }
    }

    /// A new subscriber's peers: those that messages went to already, then others.
    pub(super) fn join(&mut self, name: &Arc<[u8]>, flood: bool) {
        let topic = self.topics.entry(name.clone()).or_default();
        topic.joined = true;
        let fanout = topic.fanout.take();
        if flood {
            return;
        }
        let fanout = fanout.map(|fanout| fanout.peers).unwrap_or_default();
        let candidates = self.candidates(name, &HashSet::new(), Instant::now());
        let (mut chosen, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|peer| fanout.contains(peer));
        chosen.truncate(D);
        chosen.extend(sample(&others, D - chosen.len()));
        self.graft(name, &chosen);
    }

    pub(super) fn leave(&mut self, name: &Arc<[u8]>) {
        for peer in self.mesh_of(name) {
            self.prune(name, peer, UNSUBSCRIBE_BACKOFF);
        }
        if let Some(topic) = self.topics.get_mut(name) {
            topic.joined = false;
            if topic.is_unused() {
                self.topics.remove(name);
            }
        }
    }

    /// Takes a peer that is subscribed to a topic into its mesh if that is small.
    pub(super) fn graft_if_wanted(&mut self, name: &Arc<[u8]>, peer: PeerId) {
        let topic = self.topics.get(name);
        if topic.is_some_and(|topic| topic.joined && topic.mesh.len() < D_LOW)
            && self.is_candidate(name, &peer, Instant::now())
        {
            self.graft(name, &[peer]);
        }
    }

    /// Takes a new peer into all meshes that are small.
    pub(super) fn graft_everywhere(&mut self, peer: PeerId) {
        let small = self.topics.iter().filter(|(name, topic)| {
            topic.joined && topic.mesh.len() < D_LOW && self.is_subscribed(&peer, name)
        });
        let small: Vec<_> = small.map(|(name, _)| name.clone()).collect();
        for name in small {
            self.graft_if_wanted(&name, peer);
        }
    }

    /// Looks for peers for messages on a topic without subscribers here.
    pub(super) fn refill_fanout(&mut self, name: &Arc<[u8]>, now: Instant) {
        let known = self.topics.get(name);
        if known.is_some_and(|topic| topic.joined) || !self.members.has_topic(name) {
            return;
        }
        let fanout = known.and_then(|topic| topic.fanout.as_ref());
        let mut peers = fanout.map_or_else(HashSet::new, |fanout| fanout.peers.clone());
        if peers.len() < D {
            let others = self.candidates(name, &peers, now);
            peers.extend(sample(&others, D - peers.len()));
        }
        self.topics.entry(name.clone()).or_default().fanout = Some(Fanout {
            peers,
            last_published: now,
        });
    }

    fn expire_fanout(&mut self, name: &[u8], now: Instant) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic
                .fanout
                .take_if(|fanout| now.duration_since(fanout.last_published) > FANOUT_TTL);
        }
    }

    /// Brings a mesh to its size.
    fn maintain_mesh(&mut self, name: &Arc<[u8]>, now: Instant) {
        if !self.topics.get(name).is_some_and(|topic| topic.joined) {
            return;
        }
        for peer in self.mesh_of(name) {
            if !self.scores.may_mesh(&peer, now) {
                self.prune(name, peer, PRUNE_BACKOFF);
            }
        }
        let mesh = self.mesh_of(name);
        if mesh.len() < D_LOW {
            let candidates = self.candidates(name, &mesh, now);
            let chosen = sample(&candidates, D - mesh.len());
            self.graft(name, &chosen);
        } else if mesh.len() > D_HIGH {
            self.cut_mesh(name, mesh);
        }
        let mesh = self.mesh_of(name);
        let outbound = self.outbound_of(&mesh);
        if mesh.len() >= D_LOW && outbound < D_OUT {
            let mut candidates = self.candidates(name, &mesh, now);
            candidates.retain(|peer| self.is_outbound(peer));
            let chosen = sample(&candidates, D_OUT - outbound);
            self.graft(name, &chosen);
        }
    }

    fn cut_mesh(&mut self, name: &Arc<[u8]>, mesh: HashSet<PeerId>) {
        let mut peers: Vec<_> = mesh.into_iter().collect();
        peers.shuffle(&mut rand::rng());
        // Some of those that were dialed come first, and stay.
        let mut outbound = 0;
        peers.sort_by_cached_key(|peer| {
            let first = self.is_outbound(peer) && outbound < D_OUT;
            outbound += usize::from(first);
            !first
        });
        for peer in peers.split_off(D) {
            self.prune(name, peer, PRUNE_BACKOFF);
        }
    }

    fn is_outbound(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.outbound)
    }

    /// How many of these peers were dialed from here.
    fn outbound_of(&self, peers: &HashSet<PeerId>) -> usize {
        peers.iter().filter(|peer| self.is_outbound(peer)).count()
    }

    /// Whether a peer that asks for it gets a place in the mesh of a topic. Peers that dialed this
    /// node leave room for those that it dialed.
    pub(super) fn has_room(&self, name: &[u8], peer: &PeerId) -> bool {
        let Some(topic) = self.topics.get(name) else {
            return false;
        };
        let missing = D_OUT.saturating_sub(self.outbound_of(&topic.mesh));
        self.is_outbound(peer) || topic.mesh.len() < D_HIGH - missing
    }
}
