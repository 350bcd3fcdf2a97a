//! Meshes: who gets the messages of a topic at once, and who is told of them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::{
    super::{message::pb, rpc_queue::MeshChange},
    Router,
    state::{Fanout, Peer, PeerKind, State, Topic},
};

/// Peers in a mesh (gossipsub's D).
pub(super) const D: usize = 6;

/// Fewer are filled up (D_low).
pub(super) const D_LOW: usize = 5;

/// More are cut (D_high).
pub(super) const D_HIGH: usize = 12;

/// Peers of a mesh that were dialed from here, so that strangers cannot fill it (D_out).
const D_OUT: usize = 2;

/// Peers beyond the mesh that are told of messages (D_lazy), or this share of them, if that is
/// more.
const D_LAZY: usize = 6;
const GOSSIP_FACTOR: f64 = 0.25;

/// Messages of one topic that one peer is told of (go-libp2p-pubsub's bound).
const MAX_IHAVE_IDS: usize = 5000;

/// How long peers are remembered for a topic without subscribers here.
const FANOUT_TTL: Duration = Duration::from_secs(60);

/// How long a peer is not taken back into a mesh.
pub(super) const PRUNE_BACKOFF: Duration = Duration::from_secs(60);

/// The same, after the last subscriber here has left.
const UNSUBSCRIBE_BACKOFF: Duration = Duration::from_secs(10);

/// Longest such time that a peer may ask for.
const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// Such times remembered of one topic (SECURITY.md 3); further ones are not.
const MAX_BACKOFFS: usize = 4096;

impl Router {
    /// Repairs meshes, tells peers of messages, forgets what is old.
    pub(in super::super) fn heartbeat(&self) {
        let now = Instant::now();
        let mut lost = 0;
        let mut state = self.state();
        let state = &mut *state;
        for peer in state.peers.values_mut() {
            (peer.ihave, peer.iwant, peer.replays) = (0, 0, 0);
            lost += peer.queue.drop_stuck();
        }
        state.seen.expire(now);
        let names: Vec<_> = state.topics.keys().cloned().collect();
        for name in &names {
            state.expire_backoffs(name, now);
            if !self.flood {
                state.expire_fanout(name, now);
                state.maintain_mesh(name);
            }
        }
        if !self.flood {
            state.emit_gossip();
        }
        state.mcache.shift();
        state.topics.retain(|_, topic| !topic.is_unused());
        self.lost(lost);
    }
}

/// A peer that takes part in meshes.
fn is_gossipsub(peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| {
        matches!(
            peer.kind,
            Some(PeerKind::Gossipsub10 | PeerKind::Gossipsub11)
        )
    })
}

fn sample(peers: &[PeerId], count: usize) -> Vec<PeerId> {
    peers
        .choose_multiple(&mut rand::rng(), count)
        .copied()
        .collect()
}

impl State {
    /// Peers that could join the mesh of a topic, or its fanout.
    fn candidates(&self, topic: &str, without: &HashSet<PeerId>) -> Vec<PeerId> {
        let Some(topic) = self.topics.get(topic) else {
            return Vec::new();
        };
        let now = Instant::now();
        let backs_off = |peer: &PeerId| topic.backoff.get(peer).is_some_and(|until| *until > now);
        let fits = |peer: &&PeerId| {
            !without.contains(*peer) && !backs_off(peer) && is_gossipsub(self.peers.get(*peer))
        };
        topic.peers.iter().filter(fits).copied().collect()
    }

    fn mesh_of(&self, topic: &str) -> HashSet<PeerId> {
        let topic = self.topics.get(topic);
        topic.map_or_else(HashSet::new, |topic| topic.mesh.clone())
    }

    fn graft(&mut self, name: &Arc<str>, peers: &[PeerId]) {
        for peer in peers {
            if let (Some(topic), Some(entry)) = (self.topics.get_mut(name), self.peers.get(peer))
                && topic.mesh.insert(*peer)
            {
                entry.queue.mesh(name, MeshChange::Graft);
            }
        }
    }

    pub(super) fn prune(&mut self, name: &Arc<str>, peer: PeerId, backoff: Duration) {
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
    pub(super) fn add_backoff(&mut self, name: &str, peer: PeerId, time: Duration) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        if topic.backoff.len() >= MAX_BACKOFFS && !topic.backoff.contains_key(&peer) {
            return;
        }
        let until = Instant::now() + time.min(MAX_BACKOFF);
        let known = topic.backoff.entry(peer).or_insert(until);
        *known = (*known).max(until);
    }

    fn expire_backoffs(&mut self, name: &str, now: Instant) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.backoff.retain(|_, until| *until > now);
        }
    }

    /// A new subscriber's peers: those that messages went to already, then others.
    pub(super) fn join(&mut self, name: &Arc<str>, flood: bool) {
        let topic = self.topics.entry(name.clone()).or_default();
        topic.joined = true;
        let fanout = topic.fanout.take();
        if flood {
            return;
        }
        let fanout = fanout.map(|fanout| fanout.peers).unwrap_or_default();
        let candidates = self.candidates(name, &HashSet::new());
        let (mut chosen, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|peer| fanout.contains(peer));
        chosen.truncate(D);
        chosen.extend(sample(&others, D - chosen.len()));
        self.graft(name, &chosen);
    }

    pub(super) fn leave(&mut self, name: &Arc<str>) {
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

    /// Takes a peer that has announced a topic into a mesh that is small, at once.
    pub(super) fn graft_if_wanted(&mut self, name: &Arc<str>, peer: PeerId, flood: bool) {
        let small = |topic: &Topic| topic.joined && topic.mesh.len() < D_LOW;
        if !flood
            && self.topics.get(name).is_some_and(small)
            && self.candidates(name, &HashSet::new()).contains(&peer)
        {
            self.graft(name, &[peer]);
        }
    }

    /// Looks for peers for messages on a topic without subscribers here.
    pub(super) fn refill_fanout(&mut self, name: &str, now: Instant) {
        let Some(topic) = self.topics.get_mut(name).filter(|topic| !topic.joined) else {
            return;
        };
        let fanout = topic.fanout.get_or_insert_with(|| Fanout {
            peers: HashSet::new(),
            last_published: now,
        });
        fanout.last_published = now;
        if fanout.peers.len() < D {
            let peers = fanout.peers.clone();
            let others = self.candidates(name, &peers);
            let more = sample(&others, D - peers.len());
            if let Some(fanout) = self
                .topics
                .get_mut(name)
                .and_then(|topic| topic.fanout.as_mut())
            {
                fanout.peers.extend(more);
            }
        }
    }

    fn expire_fanout(&mut self, name: &str, now: Instant) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic
                .fanout
                .take_if(|fanout| now.duration_since(fanout.last_published) > FANOUT_TTL);
        }
    }

    /// Brings a mesh to its size.
    fn maintain_mesh(&mut self, name: &Arc<str>) {
        if !self.topics.get(name).is_some_and(|topic| topic.joined) {
            return;
        }
        let mesh = self.mesh_of(name);
        if mesh.len() < D_LOW {
            let candidates = self.candidates(name, &mesh);
            let chosen = sample(&candidates, D - mesh.len());
            self.graft(name, &chosen);
        } else if mesh.len() > D_HIGH {
            let mut peers: Vec<_> = mesh.into_iter().collect();
            peers.shuffle(&mut rand::rng());
            // Some of those that were dialed come first, and stay.
            let mut dialed = 0;
            peers.sort_by_cached_key(|peer| {
                let first = self.is_outbound(peer) && dialed < D_OUT;
                dialed += usize::from(first);
                !first
            });
            for peer in peers.split_off(D) {
                self.prune(name, peer, PRUNE_BACKOFF);
            }
        }
        let mesh = self.mesh_of(name);
        let dialed = mesh.iter().filter(|peer| self.is_outbound(peer)).count();
        if mesh.len() >= D_LOW && dialed < D_OUT {
            let mut candidates = self.candidates(name, &mesh);
            candidates.retain(|peer| self.is_outbound(peer));
            let chosen = sample(&candidates, D_OUT - dialed);
            self.graft(name, &chosen);
        }
    }

    pub(super) fn is_outbound(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.dialed)
    }

    /// Tells some of the peers that are in no mesh which messages there are.
    fn emit_gossip(&mut self) {
        let mut ihave: HashMap<PeerId, Vec<pb::IHave>> = HashMap::new();
        for (name, mut ids) in self.mcache.gossip() {
            let Some(topic) = self.topics.get(name) else {
                continue;
            };
            let mut others: Vec<PeerId> = topic.peers.iter().copied().collect();
            let fanout = topic.fanout.as_ref().map(|fanout| &fanout.peers);
            others.retain(|peer| {
                !topic.mesh.contains(peer)
                    && !fanout.is_some_and(|fanout| fanout.contains(peer))
                    && is_gossipsub(self.peers.get(peer))
            });
            let share = (others.len() as f64 * GOSSIP_FACTOR) as usize;
            for peer in sample(&others, D_LAZY.max(share)) {
                ids.shuffle(&mut rand::rng());
                let ids = ids.iter().take(MAX_IHAVE_IDS);
                ihave.entry(peer).or_default().push(pb::IHave {
                    topic_id: Some(name.to_owned()),
                    message_i_ds: ids.map(|id| id.to_vec().into()).collect(),
                });
            }
        }
        for (peer, topics) in ihave {
            if let Some(entry) = self.peers.get(&peer) {
                entry.queue.ihave(topics);
            }
        }
    }
}
