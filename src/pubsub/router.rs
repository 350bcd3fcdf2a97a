//! Who gets which message: gossipsub 1.1 without scores, or floodsub.
//!
//! One table under one lock, held for moments: whoever has a message asks it where the message
//! goes and puts it into the outboxes of those peers.

mod control;
mod mesh;
mod shed;
mod table;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use libp2p::PeerId;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;

use super::{
    message::{Message, ValidationError},
    outbox::Outbox,
    seen::IdHash,
    topics::Topics,
};
use crate::limit_hits::Limit;
pub(super) use table::Kind;
use table::State;

/// What was published and lost, for the report.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    /// Messages of peers that were here before.
    duplicates: AtomicU64,
    /// Messages of peers that are not what they say.
    refused: AtomicU64,
    /// Messages that peers did not get because they read too slowly.
    unsent: AtomicU64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Routed {
    Done,
    /// It was here before.
    Duplicate,
    /// Every peer that should get it has much to read.
    Busy,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Router {
    flood: bool,
    topics: Topics,
    state: Mutex<State>,
    /// A busy peer is so no longer.
    room: Arc<Notify>,
    pub(super) counters: Counters,
}

impl Router {
    pub(super) fn new(flood: bool) -> Self {
        Self {
            flood,
            topics: Topics::default(),
            state: Mutex::default(),
            room: Arc::new(Notify::new()),
            counters: Counters::default(),
        }
    }

    /// The subscribers here.
    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the message has been here, which is then counted.
    pub(super) fn has_seen(&self, id: IdHash) -> bool {
        let seen = self.state().seen.contains(id);
        if seen {
            self.counters.duplicates.fetch_add(1, Relaxed);
        }
        seen
    }

    /// Brings a message to the peers that should get it; false if it has been here. While all of
    /// those peers have much to read, it waits, but not for longer than `patience`.
    pub(super) async fn spread(
        &self,
        message: &Arc<Message>,
        source: Option<PeerId>,
        patience: Duration,
    ) -> bool {
        let mut routed = self.route(message, source, true);
        if routed == Routed::Busy {
            let deadline = Instant::now() + patience;
            while routed == Routed::Busy {
                let room = self.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                routed = self.route(message, source, true);
                if routed == Routed::Busy && timeout_at(deadline.into(), room).await.is_err() {
                    routed = self.route(message, source, false);
                }
            }
        }
        routed == Routed::Done
    }

    fn route(&self, message: &Arc<Message>, source: Option<PeerId>, wait: bool) -> Routed {
        let now = Instant::now();
        let mut state = self.state();
        if state.seen.contains(message.id_hash()) {
            self.counters.duplicates.fetch_add(1, Relaxed);
            return Routed::Duplicate;
        }
        let outboxes = state.recipients(message, source, self.flood, now);
        if wait && !outboxes.is_empty() && outboxes.iter().all(|outbox| outbox.is_busy()) {
            return Routed::Busy;
        }
        state.seen.insert(message.id_hash(), now);
        state.mcache.add(message.clone(), source, now);
        // Under the lock, so that no peer gets a later message of its topic first.
        for outbox in outboxes {
            self.offer(&outbox, message);
        }
        Routed::Done
    }

    fn offer(&self, outbox: &Outbox, message: &Arc<Message>) {
        if !outbox.offer(message) {
            self.lost(1);
        }
    }

    fn lost(&self, count: usize) {
        if count == 0 {
            return;
        }
        self.counters.unsent.fetch_add(count as u64, Relaxed);
        Limit::PubsubPeers.hit();
    }

    /// A message of `peer` is not taken.
    pub(super) fn refused(&self, peer: &PeerId, reason: ValidationError) {
        self.counters.refused.fetch_add(1, Relaxed);
        tracing::debug!(%peer, %reason, "pubsub message refused");
    }

    /// Peers that have announced `topic`.
    pub(super) fn peers(&self, topic: &str) -> Vec<PeerId> {
        let state = self.state();
        let topic = state.topics.get(topic);
        topic.map_or_else(Vec::new, |topic| topic.peers.iter().copied().collect())
    }

    /// Takes note of whether `topic` has subscribers here; tells peers of a change.
    pub(super) fn sync(&self, topic: &str) {
        let mut state = self.state();
        // Asked under the lock, so that the last answer is the one that stays.
        let joined = self.topics.has_subscribers(topic);
        if state.topics.get(topic).is_some_and(|known| known.joined) == joined {
            return;
        }
        let name: Arc<str> = topic.into();
        for peer in state.peers.values() {
            peer.outbox.announce(&name, joined);
        }
        if joined {
            state.join(&name, self.flood);
        } else {
            state.leave(&name);
        }
    }

    /// Words that come when connected peers have been told what was announced before.
    pub(super) fn announced(&self) -> Vec<oneshot::Receiver<()>> {
        let state = self.state();
        let outboxes = state.peers.values().map(|peer| &peer.outbox);
        outboxes.filter_map(|outbox| outbox.mark()).collect()
    }

    /// A peer that speaks pubsub is connected; its outbox if nobody looks after it yet.
    pub(super) fn met(&self, peer: PeerId) -> Option<Arc<Outbox>> {
        let mut state = self.state();
        let entry = state.entry(peer, &self.room);
        if std::mem::replace(&mut entry.written_to, true) {
            return None;
        }
        let outbox = entry.outbox.clone();
        state.greet(&outbox);
        // Nothing is taken before there is a stream.
        outbox.progress(false);
        Some(outbox)
    }

    /// There is a new stream to `peer`.
    pub(super) fn speaks(&self, peer: PeerId, kind: Kind, dialed: bool) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(entry) = state.peers.get_mut(&peer) else {
            return;
        };
        entry.kind = Some(kind);
        entry.dialed = dialed;
        for name in &entry.topics {
            if let Some(topic) = state.topics.get_mut(name) {
                if kind == Kind::Floodsub {
                    topic.floods.insert(peer);
                } else {
                    topic.floods.remove(&peer);
                }
            }
        }
        let outbox = entry.outbox.clone();
        state.greet(&outbox);
        for name in state.topics_of(&peer) {
            state.graft_if_wanted(&name, peer, self.flood);
        }
    }

    /// Nobody writes to `peer` any more, unless `stays` tells, asked under the lock, that it is
    /// still there. Whether it has gone.
    pub(super) fn left(&self, peer: PeerId, stays: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        if stays() {
            return false;
        }
        if let Some(entry) = state.peers.get_mut(&peer) {
            entry.written_to = false;
            entry.kind = None;
        }
        state.forget_if_gone(peer);
        true
    }

    /// A stream from `peer` begins; one before it ends. Its number, and what tells of its end.
    pub(super) fn listen(&self, peer: PeerId) -> (u64, CancellationToken) {
        let mut state = self.state();
        state.reads += 1;
        let (number, superseded) = (state.reads, CancellationToken::new());
        let entry = state.entry(peer, &self.room);
        if let Some((_, before)) = entry.read_from.replace((number, superseded.clone())) {
            before.cancel();
        }
        (number, superseded)
    }

    /// The stream from `peer` with this number has ended.
    pub(super) fn unlisten(&self, peer: PeerId, number: u64) {
        let mut state = self.state();
        if let Some(entry) = state.peers.get_mut(&peer) {
            entry.read_from.take_if(|(current, _)| *current == number);
        }
        state.forget_if_gone(peer);
    }

    /// Messages that peers and subscribers did not get, and those that came twice; a part of the
    /// report.
    pub(super) fn report(&self) -> String {
        let Counters {
            duplicates,
            refused,
            unsent,
            ..
        } = &self.counters;
        format!(
            "lost by slow peers: {}, duplicates: {}, refused: {}",
            unsent.load(Relaxed),
            duplicates.load(Relaxed),
            refused.load(Relaxed)
        )
    }
}

#[cfg(test)]
mod tests;
