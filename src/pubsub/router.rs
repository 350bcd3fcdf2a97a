//! Who gets which message: gossipsub 1.1 without scores, or floodsub.
//!
//! One table under one lock, held for moments: whoever has a message asks it where the message
//! goes and puts it into the outboxes of those peers.

mod control;
mod mesh;

use std::{
    collections::{HashMap, HashSet},
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
    history::History,
    message::{Message, Refused},
    outbox::Outbox,
    seen::{Id, Seen},
    topics::{Subscriber, Topics},
};
use crate::limits::Limit;
use mesh::Fanout;

/// Topics that one peer may be subscribed to (SECURITY.md 3).
const MAX_PEER_TOPICS: usize = 10_000;

/// Bytes of their names.
const MAX_PEER_NAMES: usize = 1 << 20;

/// Bytes of the names of all peers' topics.
const MAX_NAMES: usize = 64 << 20;

/// Bytes of waiting messages of a peer or subscriber that loses them when memory gets short.
const MUCH: usize = 1 << 20;

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

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Floodsub,
    /// `/meshsub/1.0.0`: a PRUNE has no time in it.
    Gossipsub10,
    Gossipsub11,
}

/// Bytes of waiting messages: what all had, what has been given up, what would be next.
struct Given {
    all: usize,
    freed: usize,
    next: usize,
}

/// Who has messages waiting.
enum Holder {
    Peer(Arc<Outbox>),
    Subscriber(Arc<Subscriber>),
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

#[derive(Debug)]
struct Peer {
    outbox: Arc<Outbox>,
    /// `None` until there is a stream to it.
    kind: Option<Kind>,
    /// Whether a task looks after the stream to it.
    written_to: bool,
    /// Ends the stream from it, which is served under this number.
    read_from: Option<(u64, CancellationToken)>,
    topics: HashSet<Arc<str>>,
    /// Bytes of their names.
    names: usize,
    /// Whether it was dialed from here.
    dialed: bool,
    /// What it told of in this heartbeat, and what it was asked for.
    told: usize,
    asked: usize,
    /// Topics of which it got what it had missed, in this heartbeat.
    caught_up: usize,
}

#[derive(Debug, Default)]
struct Topic {
    /// Whether there are subscribers here.
    joined: bool,
    peers: HashSet<PeerId>,
    /// Those of them that get every message.
    floods: HashSet<PeerId>,
    mesh: HashSet<PeerId>,
    fanout: Option<Fanout>,
    /// Until when a peer is not taken into the mesh.
    backoff: HashMap<PeerId, Instant>,
}

impl Topic {
    fn is_unused(&self) -> bool {
        !self.joined && self.peers.is_empty() && self.fanout.is_none() && self.backoff.is_empty()
    }
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<PeerId, Peer>,
    topics: HashMap<Arc<str>, Topic>,
    seen: Seen,
    history: History,
    /// Bytes of the names of all peers' topics.
    names: usize,
    heartbeats: u64,
    reads: u64,
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
    pub(super) fn has_seen(&self, id: Id) -> bool {
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
        if state.seen.contains(message.id()) {
            self.counters.duplicates.fetch_add(1, Relaxed);
            return Routed::Duplicate;
        }
        let outboxes = state.recipients(message, source, self.flood, now);
        if wait && !outboxes.is_empty() && outboxes.iter().all(|outbox| outbox.is_busy()) {
            return Routed::Busy;
        }
        state.seen.insert(message.id(), now);
        state.history.add(message.clone(), source, now);
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
    pub(super) fn refused(&self, peer: &PeerId, reason: Refused) {
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

    /// Drops what waits for one peer or subscriber after the other, beginning with those that have
    /// most of it, until that is `enough`; how many bytes it was.
    fn give_up(&self, enough: impl Fn(Given) -> bool) -> usize {
        let outboxes: Vec<_> = {
            let state = self.state();
            let peers = state.peers.values();
            peers.map(|peer| peer.outbox.clone()).collect()
        };
        let peers = outboxes
            .into_iter()
            .map(|outbox| (outbox.bytes(), Holder::Peer(outbox)));
        let subscribers = self.topics.subscribers().into_iter();
        let subscribers = subscribers.map(|one| (one.bytes(), Holder::Subscriber(one)));
        let mut holders: Vec<_> = peers.chain(subscribers).collect();
        holders.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        let all = holders.iter().map(|(held, _)| held).sum();
        let mut freed = 0;
        for (next, holder) in holders {
            if next == 0 || enough(Given { all, freed, next }) {
                break;
            }
            freed += next;
            match holder {
                Holder::Peer(outbox) => self.lost(outbox.clear()),
                Holder::Subscriber(subscriber) => self.topics.clear(&subscriber),
            }
        }
        freed
    }

    /// Drops what waits for those that have much of it.
    pub(super) fn trim(&self) {
        self.give_up(|given| given.next < MUCH);
    }

    /// Drops `bytes` of messages that wait, or seven eighths of all if that is more, of the peers
    /// and subscribers with most of them first; how many it was. So many, because memory that is
    /// free may count as used, and only what the next messages find free keeps it from growing.
    pub(super) fn shed(&self, bytes: usize) -> usize {
        self.give_up(|given| given.freed >= bytes.max(given.all - given.all / 8))
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

impl State {
    fn entry(&mut self, peer: PeerId, room: &Arc<Notify>) -> &mut Peer {
        self.peers.entry(peer).or_insert_with(|| Peer {
            outbox: Arc::new(Outbox::new(room.clone())),
            kind: None,
            written_to: false,
            read_from: None,
            topics: HashSet::new(),
            names: 0,
            dialed: false,
            told: 0,
            asked: 0,
            caught_up: 0,
        })
    }

    /// A stream to a peer begins with all topics.
    fn greet(&self, outbox: &Outbox) {
        let joined = self.topics.iter().filter(|(_, topic)| topic.joined);
        outbox.greet(joined.map(|(name, _)| name.clone()));
    }

    fn topics_of(&self, peer: &PeerId) -> Vec<Arc<str>> {
        let peer = self.peers.get(peer);
        peer.map_or_else(Vec::new, |peer| peer.topics.iter().cloned().collect())
    }

    /// Whom the message is sent to.
    fn recipients(
        &mut self,
        message: &Message,
        source: Option<PeerId>,
        flood: bool,
        now: Instant,
    ) -> Vec<Arc<Outbox>> {
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
        let floods = topic.floods.iter().filter(|peer| !chosen.contains(*peer));
        chosen
            .iter()
            .chain(floods)
            .filter(|peer| Some(**peer) != source && Some(**peer) != message.author())
            .filter_map(|peer| self.peers.get(peer))
            .filter(|peer| peer.written_to)
            .map(|peer| peer.outbox.clone())
            .collect()
    }

    /// `peer` is subscribed to `topic`; false if it has too many topics.
    fn subscribed(&mut self, peer: PeerId, topic: &str) -> bool {
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
        let floods = entry.kind == Some(Kind::Floodsub);
        let topic = self.topics.entry(name).or_default();
        topic.peers.insert(peer);
        if floods {
            topic.floods.insert(peer);
        }
        true
    }

    fn unsubscribed(&mut self, peer: PeerId, topic: &str) {
        if let Some(entry) = self.peers.get_mut(&peer)
            && entry.topics.remove(topic)
        {
            entry.names -= topic.len();
            self.names -= topic.len();
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.peers.remove(&peer);
            known.floods.remove(&peer);
            known.mesh.remove(&peer);
            if let Some(fanout) = &mut known.fanout {
                fanout.peers.remove(&peer);
            }
            if known.is_unused() {
                self.topics.remove(topic);
            }
        }
    }

    fn forget_if_gone(&mut self, peer: PeerId) {
        let gone = |peer: &Peer| !peer.written_to && peer.read_from.is_none();
        if self.peers.get(&peer).is_some_and(gone) {
            for topic in self.topics_of(&peer) {
                self.unsubscribed(peer, &topic);
            }
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests;
