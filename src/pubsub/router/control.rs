//! What peers send besides messages: subscriptions, GRAFT and PRUNE.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::{
    super::{
        message::{pb, topic_name},
        subscriptions::MAX_TOPIC,
    },
    Router,
    mesh::PRUNE_BACKOFF,
    peer::PeerKind,
    score::Offence,
    state::State,
};
use crate::{fixed_limits::fixed_limit, limit_hits::Limit};

/// Messages of the last second that a peer is sent because it subscribes, between two heartbeats
/// (SECURITY.md 3).
const MAX_REPLAYED: usize = 4096;
fixed_limit!(
    "pubsub: messages replayed to a new subscriber",
    MAX_REPLAYED
);

/// GRAFTs and PRUNEs in one RPC (SECURITY.md 3): both for each topic that a peer may have.
const MAX_GRAFTS: usize = 20_000;
fixed_limit!("pubsub: GRAFTs and PRUNEs in one RPC", MAX_GRAFTS);

/// A GRAFT this soon after a PRUNE counts twice (go-libp2p-pubsub's `GraftFloodThreshold`).
const GRAFT_FLOOD: Duration = Duration::from_secs(10);

impl Router {
    /// `peer` has announced that it is subscribed to a topic, or no longer.
    pub(in super::super) fn on_subscription(&self, peer: PeerId, change: &pb::SubOpts) {
        let topic = topic_name(change.topic_id.as_ref());
        let mut state = self.state();
        if !change.subscribe.unwrap_or_default() {
            state.unsubscribed(peer, topic);
            return;
        }
        if topic.len() > MAX_TOPIC || !state.subscribed(peer, topic) {
            drop(state);
            Limit::PubsubTopics.hit();
            return;
        }
        let own = state.topics.get_key_value(topic);
        if let Some(name) = own.map(|(name, _)| name.clone())
            && !self.flood
        {
            state.graft_if_wanted(&name, peer);
        }
        let state = &mut *state;
        let Some(entry) = state.peers.get_mut(&peer) else {
            return;
        };
        let room = MAX_REPLAYED.saturating_sub(entry.used.replayed);
        // What it missed by a moment.
        let missed = state.mcache.recent(topic, &peer, Instant::now(), room);
        entry.used.replayed += missed.len();
        for message in missed {
            self.push(&entry.queue, &message);
        }
    }

    /// `peer` has sent control messages.
    pub(in super::super) fn on_control(&self, peer: PeerId, control: &pb::Control) {
        if self.flood {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        if control.graft.len() + control.prune.len() > MAX_GRAFTS {
            state.penalize_control(peer);
        }
        state.on_ihave(peer, &control.ihave, now);
        let wanted = state.on_iwant(peer, &control.iwant, now);
        for graft in control.graft.iter().take(MAX_GRAFTS) {
            state.on_graft(peer, topic_name(graft.topic_id.as_ref()), now);
        }
        for prune in control.prune.iter().take(MAX_GRAFTS) {
            let topic = topic_name(prune.topic_id.as_ref());
            let time = prune.backoff.filter(|seconds| *seconds > 0);
            state.on_prune(peer, topic, time.map_or(PRUNE_BACKOFF, Duration::from_secs));
        }
        let queue = state.peers.get(&peer).map(|entry| entry.queue.clone());
        drop(state);
        if let Some(queue) = queue {
            for message in wanted {
                self.push(&queue, &message);
            }
        }
    }
}

impl State {
    /// `peer` has taken this node into its mesh.
    fn on_graft(&mut self, peer: PeerId, topic: &[u8], now: Instant) {
        let Some((name, known)) = self.topics.get_key_value(topic) else {
            return;
        };
        if !known.joined || known.mesh.contains(&peer) {
            // Without subscribers here no answer is needed: the peer has been or will be told.
            return;
        }
        let name: Arc<[u8]> = name.clone();
        let until = known.backoff.get(&peer).copied();
        let early = until.is_some_and(|until| until > now);
        if early && self.peers.get(&peer).and_then(|peer| peer.kind) != Some(PeerKind::Gossipsub10)
        {
            // A PRUNE of gossipsub 1.0 has no back-off, so its peers cannot know of one.
            let flood = until.is_some_and(|until| until > now + (PRUNE_BACKOFF - GRAFT_FLOOD));
            self.penalize(
                peer,
                if flood {
                    Offence::GraftFlood
                } else {
                    Offence::EarlyGraft
                },
            );
        }
        let welcome = !early
            && self.scores.may_mesh(&peer, now)
            && self.is_subscribed(&peer, topic)
            && self.has_room(topic, &peer);
        if !welcome {
            self.prune(&name, peer, PRUNE_BACKOFF);
        } else if let Some(topic) = self.topics.get_mut(topic) {
            topic.mesh.insert(peer);
        }
    }

    /// `peer` has removed this node from its mesh.
    fn on_prune(&mut self, peer: PeerId, topic: &[u8], time: Duration) {
        if let Some(known) = self.topics.get_mut(topic).filter(|topic| topic.joined) {
            known.mesh.remove(&peer);
            self.add_backoff(topic, peer, time);
        }
    }
}
