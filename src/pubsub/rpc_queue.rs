//! What is queued for one peer (go-libp2p-pubsub's `rpcQueue`).
//!
//! Announcements and changes of meshes are kept as the state that the peer should know, not as a
//! list of changes. So nothing of them has to be dropped.

mod pending;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{Notify, oneshot};

use super::message::{MAX_RPC, Message, pb};
pub(super) use pending::MeshChange;
use pending::{Pending, put_message};

use crate::fixed_limits::fixed_limit;

/// Messages that wait for one peer (SECURITY.md 3). A further one is dropped.
const MAX_QUEUED: usize = 4096;
fixed_limit!("pubsub: messages that wait for one peer", MAX_QUEUED);

/// Bytes of them.
const MAX_QUEUED_BYTES: usize = 8 << 20;
fixed_limit!("pubsub: memory of messages that wait for one peer", bytes MAX_QUEUED_BYTES);

/// Bytes of RPCs written at once, unless a single one is larger.
const MAX_BATCH: usize = 64 << 10;

/// How long a peer may read nothing before nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may read nothing before the messages that wait for it are dropped.
const STUCK: Duration = Duration::from_secs(5);
fixed_limit!("pubsub: time for which a peer may take nothing", time STUCK);

/// IWANT ids that wait to be sent. More are requested when the next IHAVE names them.
const MAX_IDS: usize = 5000;
fixed_limit!(
    "pubsub: ids asked of one peer that wait to be sent",
    MAX_IDS
);

/// Callers that wait for announcements to be written (SECURITY.md 3). Further ones do not wait.
const MAX_MARKS: usize = 1024;
fixed_limit!("pubsub: announcements that SUBSCRIBE waits for", MAX_MARKS);

/// Bytes of the IHAVE ids of one RPC. The rest of [`MAX_RPC`] is for the other fields.
const MAX_IDS_BYTES: usize = MAX_RPC / 2;

/// The queue of one peer. The router fills it, and the task that writes to the peer empties it.
#[derive(Debug)]
pub(super) struct RpcQueue {
    pending: Mutex<Pending>,
    writer: AtomicWaker,
    /// Notified when a busy peer is no longer busy.
    room: Arc<Notify>,
}

impl RpcQueue {
    pub(super) fn new(room: Arc<Notify>) -> Self {
        Self {
            pending: Mutex::default(),
            writer: AtomicWaker::new(),
            room,
        }
    }

    /// Begins a new stream, on which all subscriptions are announced (Go's hello packet).
    pub(super) fn hello(&self, topics: impl IntoIterator<Item = Arc<[u8]>>) {
        let mut pending = self.pending.lock();
        let subscriptions = topics.into_iter().map(|topic| (topic, true)).collect();
        pending.subscriptions = subscriptions;
        pending.announcing = false;
        pending.blocked = None;
        drop(pending);
        self.writer.wake();
    }

    /// Announces whether a topic has subscribers here.
    pub(super) fn announce(&self, topic: &Arc<[u8]>, subscribed: bool) {
        self.pending
            .lock()
            .subscriptions
            .insert(topic.clone(), subscribed);
        self.writer.wake();
    }

    /// A receiver that completes when everything announced so far is written. `None` if that is
    /// so already, or if the peer does not read.
    pub(super) fn mark(&self) -> Option<oneshot::Receiver<()>> {
        let mut pending = self.pending.lock();
        let written = pending.subscriptions.is_empty() && !pending.announcing;
        if written || pending.blocked_for() > PATIENCE || pending.marks.len() >= MAX_MARKS {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        pending.marks.push(sender);
        Some(receiver)
    }

    pub(super) fn mesh(&self, topic: &Arc<[u8]>, mesh: MeshChange) {
        self.pending.lock().mesh.insert(topic.clone(), mesh);
        self.writer.wake();
    }

    /// Sends IHAVE. It replaces that of the heartbeat before.
    pub(super) fn ihave(&self, topics: Vec<pb::IHave>) {
        let mut bytes = 0;
        let fits = |topic: &pb::IHave| {
            bytes += topic.encoded_len() + 8;
            bytes <= MAX_IDS_BYTES
        };
        self.pending.lock().ihave = topics.into_iter().take_while(fits).collect();
        self.writer.wake();
    }

    /// Sends IWANT.
    pub(super) fn iwant(&self, ids: impl IntoIterator<Item = Bytes>) {
        let mut pending = self.pending.lock();
        let room = MAX_IDS - pending.iwant.len().min(MAX_IDS);
        pending.iwant.extend(ids.into_iter().take(room));
        drop(pending);
        self.writer.wake();
    }

    /// Queues a message. False if there is no room for it.
    pub(super) fn push(&self, message: &Arc<Message>) -> bool {
        let mut pending = self.pending.lock();
        let bytes = pending.bytes + message.size();
        if pending.messages.len() >= MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
            return false;
        }
        pending.bytes = bytes;
        pending.messages.push_back(message.clone());
        drop(pending);
        self.writer.wake();
        true
    }

    /// Whether the peer has much to read, and is worth waiting for.
    pub(super) fn is_busy(&self) -> bool {
        let pending = self.pending.lock();
        pending.is_busy() && pending.blocked_for() <= PATIENCE
    }

    /// Drops the messages for a peer that has read nothing for long. Returns their number.
    pub(super) fn drop_stuck(&self) -> usize {
        if self.pending.lock().blocked_for() < STUCK {
            return 0;
        }
        self.clear()
    }

    /// Bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.pending.lock().bytes
    }

    /// Drops the messages that wait. Returns their number.
    pub(super) fn clear(&self) -> usize {
        let mut pending = self.pending.lock();
        pending.bytes = 0;
        std::mem::take(&mut pending.messages).len()
    }

    /// Takes what is to be written next. Pending if there is nothing.
    pub(super) fn poll_take(&self, output: &mut BytesMut, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        let mut pending = self.pending.lock();
        if pending.is_empty() {
            return Poll::Pending;
        }
        pending.encode_control(output);
        let busy = pending.is_busy();
        while output.len() < MAX_BATCH
            && let Some(message) = pending.messages.pop_front()
        {
            pending.bytes -= message.size();
            put_message(output, message.body());
        }
        if busy && !pending.is_busy() {
            self.room.notify_waiters();
        }
        Poll::Ready(())
    }

    /// Records whether the peer took some of what was written last.
    pub(super) fn progress(&self, some: bool) {
        let mut pending = self.pending.lock();
        if some {
            pending.blocked = None;
        } else {
            pending.blocked.get_or_insert_with(Instant::now);
        }
    }

    /// The stream has failed. Nobody waits for announcements any more.
    pub(super) fn fail(&self) {
        let mut pending = self.pending.lock();
        pending.marks.clear();
        pending.blocked.get_or_insert_with(Instant::now);
    }

    /// Everything that was taken is written.
    pub(super) fn flushed(&self) {
        let mut pending = self.pending.lock();
        pending.announcing = false;
        if pending.subscriptions.is_empty() {
            for mark in pending.marks.drain(..) {
                // The caller may have given up.
                let _ = mark.send(());
            }
        }
    }
}

/// Removes the first `written` bytes. A large buffer is not kept.
pub(super) fn consume(output: &mut BytesMut, written: usize) {
    output.advance(written);
    if output.is_empty() && output.capacity() > MAX_BATCH {
        *output = BytesMut::new();
    }
}
