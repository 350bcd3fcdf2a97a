//! What peers say besides messages.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    super::{
        message::{Message, pb},
        seen::IdHash,
        subscriptions::MAX_TOPIC,
    },
    Router,
    mesh::{D_HIGH, PRUNE_BACKOFF},
    state::State,
};
use crate::limit_hits::Limit;

/// Times that a peer may tell of messages between two heartbeats (go-libp2p-pubsub's bound).
const MAX_IHAVE_MESSAGES: usize = 10;

/// Messages that a peer is asked for between two heartbeats (the same).
const MAX_IWANT_IDS: usize = 5000;

/// Subscriptions of which a peer gets what it missed by a moment, between two heartbeats: each costs a
/// look at all recent messages.
const MAX_REPLAYS: usize = 256;

/// Longest message id that is asked for, in bytes: a peer id and a number.
const MAX_MESSAGE_ID: usize = 128;

impl Router {
    /// `peer` has announced that it is subscribed to a topic, or no longer.
    pub(in super::super) fn on_subscription(&self, peer: PeerId, change: &pb::SubOpts) {
        let topic = change.topic_id.as_deref().unwrap_or_default();
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
        let name: Arc<str> = match state.topics.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => return,
        };
        state.graft_if_wanted(&name, peer, self.flood);
        if !state.mcache.has(topic) {
            return;
        }
        let Some(entry) = state.peers.get_mut(&peer) else {
            return;
        };
        entry.replays += 1;
        if entry.replays > MAX_REPLAYS {
            return;
        }
        let queue = entry.queue.clone();
        // What it missed by a moment.
        let missed = state.mcache.recent(topic, &peer, Instant::now());
        drop(state);
        for message in missed {
            self.push(&queue, &message);
        }
    }

    /// `peer` tells of messages, asks for some, or says what becomes of a mesh.
    pub(in super::super) fn on_control(&self, peer: PeerId, control: &pb::Control) {
        if self.flood {
            return;
        }
        let mut state = self.state();
        for ihave in &control.ihave {
            state.on_ihave(peer, ihave);
        }
        let wanted = control.iwant.iter().flat_map(|iwant| &iwant.message_i_ds);
        let wanted: Vec<Arc<Message>> = wanted
            .take(MAX_IWANT_IDS)
            .filter_map(|id| state.mcache.iwant(IdHash::of(id), peer))
            .collect();
        for graft in &control.graft {
            state.on_graft(peer, graft.topic_id.as_deref().unwrap_or_default());
        }
        for prune in &control.prune {
            let topic = prune.topic_id.as_deref().unwrap_or_default();
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
    /// Asks for what is not here yet, of topics with subscribers here.
    fn on_ihave(&mut self, peer: PeerId, ihave: &pb::IHave) {
        let topic = ihave.topic_id.as_deref().unwrap_or_default();
        let wanted = self.topics.get(topic).is_some_and(|topic| topic.joined);
        let Some(entry) = self.peers.get_mut(&peer).filter(|_| wanted) else {
            return;
        };
        entry.ihave += 1;
        if entry.ihave > MAX_IHAVE_MESSAGES || entry.iwant >= MAX_IWANT_IDS {
            return;
        }
        let missing: Vec<Bytes> = ihave
            .message_i_ds
            .iter()
            .take(MAX_IWANT_IDS)
            .filter(|id| id.len() <= MAX_MESSAGE_ID && !self.seen.contains(IdHash::of(id)))
            .take(MAX_IWANT_IDS - entry.iwant)
            // A slice would keep all of the RPC that it came with.
            .map(|id| Bytes::copy_from_slice(id))
            .collect();
        if !missing.is_empty() {
            entry.iwant += missing.len();
            entry.queue.iwant(missing);
        }
    }

    /// `peer` has taken this node into its mesh.
    fn on_graft(&mut self, peer: PeerId, topic: &str) {
        let Some((name, known)) = self.topics.get_key_value(topic) else {
            return;
        };
        if !known.joined || known.mesh.contains(&peer) {
            // A topic that nobody here is subscribed to needs no answer: the peer has been or
            // will be told.
            return;
        }
        let name = name.clone();
        let too_soon = known
            .backoff
            .get(&peer)
            .is_some_and(|until| *until > Instant::now());
        let full = known.mesh.len() >= D_HIGH && !self.is_outbound(&peer);
        let subscribed = known.peers.contains(&peer);
        if too_soon || full || !subscribed {
            self.prune(&name, peer, PRUNE_BACKOFF);
        } else if let Some(topic) = self.topics.get_mut(topic) {
            topic.mesh.insert(peer);
        }
    }

    /// `peer` has put this node out of its mesh.
    fn on_prune(&mut self, peer: PeerId, topic: &str, time: Duration) {
        if let Some(known) = self.topics.get_mut(topic).filter(|topic| topic.joined) {
            known.mesh.remove(&peer);
            self.add_backoff(topic, peer, time);
        }
    }
}
