//! Gossip: IHAVE names the messages that there are, IWANT requests them.

use std::{collections::HashMap, time::Instant};

use bytes::Bytes;
use libp2p::PeerId;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::{
    super::{
        message::{Message, pb, topic_name},
        seen::IdHash,
    },
    mesh::{is_gossipsub, sample},
    state::State,
};
use std::sync::Arc;

use crate::fixed_limits::fixed_limit;

/// Peers outside the mesh that get IHAVE, or this share of them if that is more.
const D_LAZY: usize = 6;
const GOSSIP_FACTOR: f64 = 0.25;

/// Ids in one IHAVE (go-libp2p-pubsub's bound). A longer one from a peer is cut.
const MAX_IHAVE_IDS: usize = 5000;

/// RPCs with IHAVE of one peer between two heartbeats (SECURITY.md 3; go-libp2p-pubsub's bound).
const MAX_IHAVE_MESSAGES: usize = 10;
fixed_limit!(
    "pubsub: RPCs with IHAVE between two heartbeats",
    MAX_IHAVE_MESSAGES
);

/// Messages that are requested of one peer between two heartbeats (the same).
const MAX_IWANT_IDS: usize = 5000;
fixed_limit!(
    "pubsub: ids asked of one peer between two heartbeats",
    MAX_IWANT_IDS
);

/// Messages that one peer may request between two heartbeats (SECURITY.md 3).
const MAX_REQUESTS: usize = 5000;
fixed_limit!(
    "pubsub: messages by IWANT between two heartbeats",
    MAX_REQUESTS
);

/// How often one peer gets the same message on request (SECURITY.md 3; gossipsub's default).
const MAX_RETRANSMISSIONS: u8 = 3;
fixed_limit!(
    "pubsub: times one peer gets the same message by IWANT",
    MAX_RETRANSMISSIONS
);

/// Longest message id that is requested, in bytes: a peer id and a number.
const MAX_MESSAGE_ID: usize = 128;

impl State {
    /// Sends IHAVE to some of the peers that are in no mesh.
    pub(super) fn emit_gossip(&mut self, now: Instant) {
        let mut ihave: HashMap<PeerId, Vec<pb::IHave>> = HashMap::new();
        for (name, mut ids) in self.mcache.gossip() {
            let Some(topic) = self.topics.get(name) else {
                continue;
            };
            let fanout = topic.fanout.as_ref().map(|fanout| &fanout.peers);
            let others = self.members.of(name).filter(|peer| {
                !topic.mesh.contains(peer)
                    && !fanout.is_some_and(|fanout| fanout.contains(peer))
                    && is_gossipsub(self.peers.get(peer))
                    && self.scores.may_gossip(peer, now)
            });
            let others: Vec<PeerId> = others.collect();
            let share = (others.len() as f64 * GOSSIP_FACTOR) as usize;
            for peer in sample(&others, D_LAZY.max(share)) {
                if ids.len() > MAX_IHAVE_IDS {
                    // Each peer gets others of them.
                    ids.shuffle(&mut rand::rng());
                }
                ihave.entry(peer).or_default().push(pb::IHave {
                    topic_id: Some(Bytes::copy_from_slice(name)),
                    message_i_ds: ids.iter().take(MAX_IHAVE_IDS).cloned().collect(),
                });
            }
        }
        for (peer, topics) in ihave {
            if let Some(entry) = self.peers.get(&peer) {
                entry.queue.ihave(topics);
            }
        }
    }

    /// Requests what is new of what `peer` offers, on topics with subscribers here.
    pub(super) fn on_ihave(&mut self, peer: PeerId, ihaves: &[pb::IHave], now: Instant) {
        if ihaves.is_empty() || !self.scores.may_gossip(&peer, now) {
            return;
        }
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        entry.used.ihave += 1;
        let long = |ihave: &pb::IHave| ihave.message_i_ds.len() > MAX_IHAVE_IDS;
        if entry.used.ihave > MAX_IHAVE_MESSAGES || ihaves.iter().any(long) {
            self.penalize_control(peer);
        }
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if entry.used.ihave > MAX_IHAVE_MESSAGES {
            return;
        }
        let room = MAX_IWANT_IDS.saturating_sub(entry.used.iwant_sent);
        let joined = ihaves.iter().filter(|ihave| {
            let topic = self.topics.get(topic_name(ihave.topic_id.as_ref()));
            topic.is_some_and(|topic| topic.joined)
        });
        let ids = joined.flat_map(|ihave| ihave.message_i_ds.iter().take(MAX_IHAVE_IDS));
        // No more are looked at than could be requested in a whole heartbeat.
        let ids = ids.take(MAX_IWANT_IDS);
        let missing = ids.filter(|id| id.len() <= MAX_MESSAGE_ID);
        let missing = missing.filter(|id| !self.seen.contains(IdHash::of(id)));
        // A slice would keep all of the RPC that it came with.
        let missing: Vec<Bytes> = missing
            .take(room)
            .map(|id| Bytes::copy_from_slice(id))
            .collect();
        if let Some(id) = missing.choose(&mut rand::rng()) {
            self.promises.add(IdHash::of(id), peer, now);
            entry.used.iwant_sent += missing.len();
            entry.queue.iwant(missing);
        }
    }

    /// The messages that `peer` requests, within its own bounds.
    pub(super) fn on_iwant(
        &mut self,
        peer: PeerId,
        iwants: &[pb::IWant],
        now: Instant,
    ) -> Vec<Arc<Message>> {
        if iwants.is_empty() || !self.scores.may_gossip(&peer, now) {
            return Vec::new();
        }
        let Some(entry) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        let mut wanted = Vec::new();
        let mut ids = iwants.iter().flat_map(|iwant| &iwant.message_i_ds);
        while entry.used.iwant_received < MAX_REQUESTS {
            let Some(id) = ids.next() else {
                return wanted;
            };
            entry.used.iwant_received += 1;
            let id = IdHash::of(id);
            if let Some(message) = self.mcache.get(id)
                && entry.used.request(id) <= MAX_RETRANSMISSIONS
            {
                wanted.push(message);
            }
        }
        if ids.next().is_some() {
            self.penalize_control(peer);
        }
        wanted
    }
}
