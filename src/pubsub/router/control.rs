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
        seen::Id,
        topics::MAX_TOPIC,
    },
    Router,
    mesh::{BACKOFF, MESH_HIGH},
    table::State,
};
use crate::limits::Limit;

/// Times that a peer may tell of messages between two heartbeats (go-libp2p-pubsub's bound).
const MAX_TELLS: usize = 10;

/// Messages that a peer is asked for between two heartbeats (the same).
const MAX_ASKS: usize = 5000;

/// Topics of which a peer gets what it missed by a moment, between two heartbeats: each costs a
/// look at all recent messages.
const MAX_CATCH_UPS: usize = 256;

/// Longest name of a message that is asked for, in bytes: a peer id and a number.
const MAX_NAME: usize = 128;

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
        if !state.history.has(topic) {
            return;
        }
        let Some(entry) = state.peers.get_mut(&peer) else {
            return;
        };
        entry.caught_up += 1;
        if entry.caught_up > MAX_CATCH_UPS {
            return;
        }
        let outbox = entry.outbox.clone();
        // What it missed by a moment.
        let missed = state.history.recent(topic, &peer, Instant::now());
        drop(state);
        for message in missed {
            self.offer(&outbox, &message);
        }
    }

    /// `peer` tells of messages, asks for some, or says what becomes of a mesh.
    pub(in super::super) fn on_control(&self, peer: PeerId, control: &pb::Control) {
        if self.flood {
            return;
        }
        let mut state = self.state();
        for told in &control.ihave {
            state.told(peer, told);
        }
        let asked = control.iwant.iter().flat_map(|asked| &asked.message_i_ds);
        let asked: Vec<Arc<Message>> = asked
            .take(MAX_ASKS)
            .filter_map(|name| state.history.ask(Id::of(name), peer))
            .collect();
        for graft in &control.graft {
            state.grafted(peer, graft.topic_id.as_deref().unwrap_or_default());
        }
        for prune in &control.prune {
            let topic = prune.topic_id.as_deref().unwrap_or_default();
            let time = prune.backoff.filter(|seconds| *seconds > 0);
            state.pruned(peer, topic, time.map_or(BACKOFF, Duration::from_secs));
        }
        let outbox = state.peers.get(&peer).map(|entry| entry.outbox.clone());
        drop(state);
        if let Some(outbox) = outbox {
            for message in asked {
                self.offer(&outbox, &message);
            }
        }
    }
}

impl State {
    /// Asks for what is not here yet, of topics with subscribers here.
    fn told(&mut self, peer: PeerId, told: &pb::IHave) {
        let topic = told.topic_id.as_deref().unwrap_or_default();
        let wanted = self.topics.get(topic).is_some_and(|topic| topic.joined);
        let Some(entry) = self.peers.get_mut(&peer).filter(|_| wanted) else {
            return;
        };
        entry.told += 1;
        if entry.told > MAX_TELLS || entry.asked >= MAX_ASKS {
            return;
        }
        let missing: Vec<Bytes> = told
            .message_i_ds
            .iter()
            .take(MAX_ASKS)
            .filter(|name| name.len() <= MAX_NAME && !self.seen.contains(Id::of(name)))
            .take(MAX_ASKS - entry.asked)
            // A slice would keep all of the RPC that it came with.
            .map(|name| Bytes::copy_from_slice(name))
            .collect();
        if !missing.is_empty() {
            entry.asked += missing.len();
            entry.outbox.ask(missing);
        }
    }

    /// `peer` has taken this node into its mesh.
    fn grafted(&mut self, peer: PeerId, topic: &str) {
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
        let full = known.mesh.len() >= MESH_HIGH && !self.is_dialed(&peer);
        let subscribed = known.peers.contains(&peer);
        if too_soon || full || !subscribed {
            self.prune(&name, peer, BACKOFF);
        } else if let Some(topic) = self.topics.get_mut(topic) {
            topic.mesh.insert(peer);
        }
    }

    /// `peer` has put this node out of its mesh.
    fn pruned(&mut self, peer: PeerId, topic: &str, time: Duration) {
        if let Some(known) = self.topics.get_mut(topic).filter(|topic| topic.joined) {
            known.mesh.remove(&peer);
            self.back_off(topic, peer, time);
        }
    }
}
