//! Which peers get which message: gossipsub 1.1, with the part of its score that needs no
//! application, or floodsub.
//!
//! All state is under one lock, which is held for moments. Whoever has a message puts it into the
//! queues of the peers that the router names.

mod control;
mod gossip;
mod members;
mod mesh;
mod peer;
mod promises;
mod score;
mod shed;
mod snapshot;
mod state;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use libp2p::PeerId;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;

use super::{
    Signing,
    message::{Message, ValidationError},
    rpc_queue::RpcQueue,
    seen::{IdHash, Seen, Sequence},
    subscriptions::Subscriptions,
};
use crate::{
    events::{Event, Events, Kind},
    limit_hits::Limit,
    memory::Account,
};
use members::Members;
pub(super) use peer::PeerKind;
pub(super) use score::Offence;
use state::{Report, State};

/// Messages by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    /// Messages of peers that were here before.
    pub(super) duplicates: AtomicU64,
    /// Messages of peers that are not what they say.
    pub(super) rejected: AtomicU64,
    /// Messages that peers did not get because they read too slowly.
    pub(super) unsent: AtomicU64,
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

/// Whether a message has been noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    New,
    /// That was before it was validated.
    Noted,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Router {
    flood: bool,
    signing: Signing,
    subscriptions: Subscriptions,
    state: Mutex<State>,
    events: Events,
    /// A busy peer is so no longer.
    room: Arc<Notify>,
    pub(super) counters: Counters,
}

impl Router {
    pub(super) fn new(flood: bool, signing: Signing, events: Events) -> Self {
        Self {
            flood,
            signing,
            subscriptions: Subscriptions::default(),
            state: Mutex::new(State {
                members: Members::new(events.clone()),
                ..State::default()
            }),
            events,
            room: Arc::new(Notify::new()),
            counters: Counters::default(),
        }
    }

    /// Remembers no more messages than fit into a process that may use so many bytes of memory. To be
    /// called before the first message.
    pub(super) fn limit_memory(&self, memory: u64) {
        self.state().seen = Seen::of(memory);
    }

    /// Tells `report` of peers that break the rules, under the lock of the router.
    pub(super) fn set_report(&self, report: impl Fn(&PeerId, Offence) + Send + 'static) {
        self.state().report = Report(Some(Box::new(report)));
    }

    /// The subscribers here.
    pub(super) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether the message has been here, which is then counted.
    pub(super) fn has_seen(&self, id: IdHash) -> bool {
        let mut state = self.state();
        state.promises.fulfil(id);
        let seen = state.seen.contains(id);
        drop(state);
        if seen {
            self.counters.duplicates.fetch_add(1, Relaxed);
        }
        seen
    }

    /// Brings a message to the peers that should get it; false if it has been here. While all of
    /// those peers have much to read, it waits, but not for longer than `patience`.
    pub(super) async fn publish(
        &self,
        message: &Arc<Message>,
        source: Option<PeerId>,
        patience: Duration,
    ) -> bool {
        self.spread(message, source, patience, Is::New).await == Routed::Done
    }

    /// As [`Router::publish`], for a message that was noted before.
    pub(super) async fn forward(
        &self,
        message: &Arc<Message>,
        source: Option<PeerId>,
        patience: Duration,
    ) {
        self.spread(message, source, patience, Is::Noted).await;
    }

    /// As [`Router::forward`], without patience.
    pub(super) fn forward_now(&self, message: &Arc<Message>, source: Option<PeerId>) {
        self.route(message, source, false, Is::Noted);
    }

    /// Takes note of a message that a peer has sent, before it is validated; false if it has been here.
    pub(super) fn note(&self, message: &Arc<Message>) -> bool {
        let origin = message.origin().filter(|_| self.signing == Signing::Strict);
        let mut state = self.state();
        let is_old = origin
            .as_ref()
            .is_some_and(|origin| state.seen.is_old(origin));
        let id = message.id_hash();
        if is_old || !state.seen.insert(id, origin, Instant::now()) {
            drop(state);
            self.counters.duplicates.fetch_add(1, Relaxed);
            return false;
        }
        true
    }

    /// A client has rejected a message that `peer` sent.
    pub(super) fn rejected_by_validator(&self, peer: PeerId) {
        self.counters.rejected.fetch_add(1, Relaxed);
        self.state().penalize(peer, Offence::InvalidMessage);
    }

    async fn spread(
        &self,
        message: &Arc<Message>,
        source: Option<PeerId>,
        patience: Duration,
        is: Is,
    ) -> Routed {
        let mut routed = self.route(message, source, true, is);
        if routed == Routed::Busy {
            let deadline = Instant::now() + patience;
            while routed == Routed::Busy {
                let room = self.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                routed = self.route(message, source, true, is);
                if routed == Routed::Busy && timeout_at(deadline.into(), room).await.is_err() {
                    routed = self.route(message, source, false, is);
                }
            }
        }
        routed
    }

    fn route(&self, message: &Arc<Message>, source: Option<PeerId>, wait: bool, is: Is) -> Routed {
        let now = Instant::now();
        // Numbers that are not signed prove nothing.
        let origin = message.origin().filter(|_| self.signing == Signing::Strict);
        let mut state = self.state();
        let old = |origin: &Sequence| source.is_some() && state.seen.is_old(origin);
        let seen = state.seen.contains(message.id_hash()) || origin.as_ref().is_some_and(old);
        if is == Is::New && seen {
            self.counters.duplicates.fetch_add(1, Relaxed);
            return Routed::Duplicate;
        }
        let queues = state.recipients(message, source, self.flood, now);
        if wait && !queues.is_empty() && queues.iter().all(|queue| queue.is_busy()) {
            return Routed::Busy;
        }
        state.seen.insert(message.id_hash(), origin, now);
        state.mcache.add(message.clone(), source, now);
        // Under the lock, so that no peer gets a later message of its topic first.
        for queue in queues {
            self.push(&queue, message);
        }
        Routed::Done
    }

    fn push(&self, queue: &RpcQueue, message: &Arc<Message>) {
        if !queue.push(message) {
            self.count_unsent(1);
        }
    }

    fn count_unsent(&self, count: usize) {
        if count == 0 {
            return;
        }
        self.counters.unsent.fetch_add(count as u64, Relaxed);
        Limit::PubsubPeers.hit();
    }

    /// A message of `peer` was not accepted.
    pub(super) fn rejected(&self, peer: PeerId, reason: ValidationError) {
        self.counters.rejected.fetch_add(1, Relaxed);
        tracing::debug!(%peer, %reason, "pubsub message rejected");
        // What else there is may come from an honest node with another policy.
        if matches!(reason, ValidationError::Key | ValidationError::Signature) {
            self.state().penalize(peer, Offence::InvalidMessage);
        }
    }

    /// What `peer` sent is no RPC.
    pub(super) fn malformed(&self, peer: PeerId) {
        self.state().penalize(peer, Offence::Malformed);
    }

    /// `peer` has sent a control message with more in it than anybody takes.
    pub(super) fn overlong_control(&self, peer: PeerId) {
        self.state().penalize_control(peer);
    }

    /// Whether everything that `peer` sends is ignored.
    pub(super) fn is_graylisted(&self, peer: &PeerId) -> bool {
        self.state().scores.is_graylisted(peer, Instant::now())
    }

    /// Peers that have announced `topic`.
    pub(super) fn peers(&self, topic: &[u8]) -> Vec<PeerId> {
        self.state().members.of(topic).collect()
    }

    /// Removes some of what is left of peers that have gone. Returns whether there is more.
    pub(super) fn sweep(&self) -> bool {
        self.state().members.sweep()
    }

    /// Takes note of whether `topic` has subscribers here, and announces a change to peers.
    pub(super) fn update_subscription(&self, topic: &[u8]) {
        let mut state = self.state();
        // Read under the lock, so that the last change is the one that stays.
        let joined = self.subscriptions.has_subscribers(topic);
        if state.topics.get(topic).is_some_and(|known| known.joined) == joined {
            return;
        }
        let name: Arc<[u8]> = topic.into();
        for peer in state.peers.values() {
            peer.queue.announce(&name, joined);
        }
        let (peer, topic) = (None, name.clone());
        if joined {
            let told = || Event::TopicJoined { peer, topic };
            self.events.tell(Kind::TopicJoined, told);
            state.join(&name, self.flood);
        } else {
            let told = || Event::TopicLeft { peer, topic };
            self.events.tell(Kind::TopicLeft, told);
            state.leave(&name);
            state.promises.clear();
        }
    }

    /// Receivers that complete when what was announced so far is written to the connected peers.
    pub(super) fn announced(&self) -> Vec<oneshot::Receiver<()>> {
        let state = self.state();
        let queues = state.peers.values().map(|peer| &peer.queue);
        queues.filter_map(|queue| queue.mark()).collect()
    }

    /// A peer that speaks pubsub is connected. Returns its queue if no task writes to it yet.
    pub(super) fn new_peer(&self, peer: PeerId, account: &Arc<Account>) -> Option<Arc<RpcQueue>> {
        let mut state = self.state();
        let entry = state.entry(peer, account, &self.room);
        if std::mem::replace(&mut entry.has_writer, true) {
            return None;
        }
        let queue = entry.queue.clone();
        state.flooded.insert(peer);
        state.hello(&queue);
        // Nothing is taken before there is a stream.
        queue.progress(false);
        Some(queue)
    }

    /// There is a new stream to `peer`.
    pub(super) fn add_peer(&self, peer: PeerId, kind: PeerKind, outbound: bool) {
        let mut state = self.state();
        if !state.set_kind(peer, kind, outbound) {
            return;
        }
        if let Some(entry) = state.peers.get(&peer) {
            state.hello(&entry.queue);
        }
        if !self.flood {
            state.graft_everywhere(peer);
        }
    }

    /// No task writes to `peer` any more, unless `stays` says, under the lock, that it is still
    /// connected. Returns whether it has gone.
    pub(super) fn remove_peer(&self, peer: PeerId, stays: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        if stays() {
            return false;
        }
        if let Some(entry) = state.peers.get_mut(&peer) {
            entry.has_writer = false;
            entry.kind = None;
        }
        state.flooded.remove(&peer);
        state.forget_if_gone(peer);
        true
    }

    /// `peer` opens a stream, which ends the one before. Returns its number, and a token that is
    /// cancelled when another one takes its place.
    pub(super) fn open_inbound(
        &self,
        peer: PeerId,
        account: &Arc<Account>,
    ) -> (u64, CancellationToken) {
        let mut state = self.state();
        state.inbound_streams += 1;
        let (number, superseded) = (state.inbound_streams, CancellationToken::new());
        let entry = state.entry(peer, account, &self.room);
        if let Some((_, before)) = entry.inbound.replace((number, superseded.clone())) {
            before.cancel();
        }
        (number, superseded)
    }

    /// The stream from `peer` with this number has ended.
    pub(super) fn close_inbound(&self, peer: PeerId, number: u64) {
        let mut state = self.state();
        if let Some(entry) = state.peers.get_mut(&peer) {
            entry.inbound.take_if(|(current, _)| *current == number);
        }
        state.forget_if_gone(peer);
    }
}

#[cfg(test)]
mod tests;
