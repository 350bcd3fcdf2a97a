//! What waits to be sent to one peer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::task::AtomicWaker;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tokio::sync::{Notify, oneshot};

use super::message::{MAX_RPC, Message, pb};

/// Messages that wait for one peer (SECURITY.md 3); a further one is dropped.
const MAX_QUEUED: usize = 4096;

/// Bytes of them.
const MAX_QUEUED_BYTES: usize = 8 << 20;

/// Waiting messages at which a peer counts as busy: whoever has others to send to need not
/// wait for it.
const BUSY: usize = 16;

/// Bytes of them.
const BUSY_BYTES: usize = 256 << 10;

/// Bytes of RPCs written at once, unless a single one is larger.
const MAX_BATCH: usize = 64 << 10;

/// How long a peer may take nothing before nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take nothing before what waits for it is dropped.
const STUCK: Duration = Duration::from_secs(5);

/// Ids asked for that wait; more are asked for when they are told of again.
const MAX_IDS: usize = 5000;

/// Who waits for announcements to be written (SECURITY.md 3); further ones do not wait.
const MAX_MARKS: usize = 1024;

/// The length of an RPC's list of ids, at most: what is left of [`MAX_RPC`] is for the rest.
const MAX_IDS_BYTES: usize = MAX_RPC / 2;

/// What becomes of a peer in a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mesh {
    Graft,
    /// It shall not come back so soon.
    Prune {
        backoff: Option<Duration>,
    },
}

#[derive(Debug, Default)]
struct Queue {
    /// Topics of which the peer is to be told whether they have subscribers here.
    subscriptions: BTreeMap<Arc<str>, bool>,
    /// Announcements are being written.
    announcing: bool,
    marks: Vec<oneshot::Sender<()>>,
    mesh: BTreeMap<Arc<str>, Mesh>,
    ihave: Vec<pb::IHave>,
    iwant: Vec<Bytes>,
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    /// Since when the peer takes nothing of what waits.
    blocked: Option<Instant>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
            && self.mesh.is_empty()
            && self.ihave.is_empty()
            && self.iwant.is_empty()
            && self.messages.is_empty()
    }

    fn is_busy(&self) -> bool {
        self.messages.len() >= BUSY || self.bytes >= BUSY_BYTES
    }

    fn blocked_for(&self) -> Duration {
        self.blocked.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn control(&mut self, output: &mut BytesMut) {
        if !self.subscriptions.is_empty() {
            self.announcing = true;
            let subscriptions = std::mem::take(&mut self.subscriptions).into_iter();
            let subscriptions = subscriptions.map(|(topic, subscribe)| pb::SubOpts {
                subscribe: Some(subscribe),
                topic_id: Some(topic.as_ref().to_owned()),
            });
            put_rpc(
                output,
                pb::Rpc {
                    subscriptions: subscriptions.collect(),
                    ..pb::Rpc::default()
                },
            );
        }
        if !self.mesh.is_empty() {
            let mut control = pb::Control::default();
            for (topic, mesh) in std::mem::take(&mut self.mesh) {
                let topic_id = Some(topic.as_ref().to_owned());
                match mesh {
                    Mesh::Graft => control.graft.push(pb::Graft { topic_id }),
                    Mesh::Prune { backoff } => control.prune.push(pb::Prune {
                        topic_id,
                        backoff: backoff.map(|time| time.as_secs()),
                    }),
                }
            }
            put_control(output, control);
        }
        if !self.ihave.is_empty() {
            let ihave = std::mem::take(&mut self.ihave);
            put_control(
                output,
                pb::Control {
                    ihave,
                    ..pb::Control::default()
                },
            );
        }
        if !self.iwant.is_empty() {
            let message_i_ds = std::mem::take(&mut self.iwant);
            let iwant = vec![pb::IWant { message_i_ds }];
            put_control(
                output,
                pb::Control {
                    iwant,
                    ..pb::Control::default()
                },
            );
        }
    }
}

fn put_control(output: &mut BytesMut, control: pb::Control) {
    put_rpc(
        output,
        pb::Rpc {
            control: Some(control),
            ..pb::Rpc::default()
        },
    );
}

fn put_rpc(output: &mut BytesMut, rpc: pb::Rpc) {
    output.extend_from_slice(&rpc.encode_length_delimited_to_vec());
}

/// A message as an RPC of its own.
fn put_message(output: &mut BytesMut, body: &[u8]) {
    const PUBLISH: u32 = 2;
    let len = body.len() as u64;
    let rpc = key_len(PUBLISH) + encoded_len_varint(len) + body.len();
    output.reserve(rpc + encoded_len_varint(rpc as u64));
    encode_varint(rpc as u64, output);
    encode_key(PUBLISH, WireType::LengthDelimited, output);
    encode_varint(len, output);
    output.extend_from_slice(body);
}

/// See the module. Filled by whoever has something to say, emptied by the task that writes.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    writer: AtomicWaker,
    /// Is told when a busy peer is so no longer.
    room: Arc<Notify>,
}

impl Outbox {
    pub(super) fn new(room: Arc<Notify>) -> Self {
        Self {
            queue: Mutex::default(),
            writer: AtomicWaker::new(),
            room,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew with these topics, on a new stream.
    pub(super) fn greet(&self, topics: impl IntoIterator<Item = Arc<str>>) {
        let mut queue = self.queue();
        let subscriptions = topics.into_iter().map(|topic| (topic, true)).collect();
        queue.subscriptions = subscriptions;
        queue.announcing = false;
        queue.blocked = None;
        drop(queue);
        self.writer.wake();
    }

    /// Announces whether a topic has subscribers here.
    pub(super) fn announce(&self, topic: &Arc<str>, subscribed: bool) {
        self.queue().subscriptions.insert(topic.clone(), subscribed);
        self.writer.wake();
    }

    /// A word when all that has been announced is written; `None` if it is, or if the peer
    /// takes nothing.
    pub(super) fn mark(&self) -> Option<oneshot::Receiver<()>> {
        let mut queue = self.queue();
        let written = queue.subscriptions.is_empty() && !queue.announcing;
        if written || queue.blocked_for() > PATIENCE || queue.marks.len() >= MAX_MARKS {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        queue.marks.push(sender);
        Some(receiver)
    }

    pub(super) fn mesh(&self, topic: &Arc<str>, mesh: Mesh) {
        self.queue().mesh.insert(topic.clone(), mesh);
        self.writer.wake();
    }

    /// Tells of messages; of those of the last heartbeat only.
    pub(super) fn ihave(&self, topics: Vec<pb::IHave>) {
        let mut bytes = 0;
        let fits = |topic: &pb::IHave| {
            bytes += topic.encoded_len() + 8;
            bytes <= MAX_IDS_BYTES
        };
        self.queue().ihave = topics.into_iter().take_while(fits).collect();
        self.writer.wake();
    }

    /// Asks for messages.
    pub(super) fn iwant(&self, ids: impl IntoIterator<Item = Bytes>) {
        let mut queue = self.queue();
        let room = MAX_IDS - queue.iwant.len().min(MAX_IDS);
        queue.iwant.extend(ids.into_iter().take(room));
        drop(queue);
        self.writer.wake();
    }

    /// Queues a message; false if there is no room for it.
    pub(super) fn offer(&self, message: &Arc<Message>) -> bool {
        let mut queue = self.queue();
        let bytes = queue.bytes + message.size();
        if queue.messages.len() >= MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
            return false;
        }
        queue.bytes = bytes;
        queue.messages.push_back(message.clone());
        drop(queue);
        self.writer.wake();
        true
    }

    /// Whether the peer has much to read, and is worth waiting for.
    pub(super) fn is_busy(&self) -> bool {
        let queue = self.queue();
        queue.is_busy() && queue.blocked_for() <= PATIENCE
    }

    /// Drops the messages for a peer that has taken nothing for long; how many.
    pub(super) fn drop_stuck(&self) -> usize {
        if self.queue().blocked_for() < STUCK {
            return 0;
        }
        self.clear()
    }

    /// Bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Drops the messages that wait; how many.
    pub(super) fn clear(&self) -> usize {
        let mut queue = self.queue();
        queue.bytes = 0;
        std::mem::take(&mut queue.messages).len()
    }

    /// Takes what is to be written next; pending if there is nothing.
    pub(super) fn poll_take(&self, output: &mut BytesMut, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        let mut queue = self.queue();
        if queue.is_empty() {
            return Poll::Pending;
        }
        queue.control(output);
        let busy = queue.is_busy();
        while output.len() < MAX_BATCH
            && let Some(message) = queue.messages.pop_front()
        {
            queue.bytes -= message.size();
            put_message(output, message.body());
        }
        if busy && !queue.is_busy() {
            self.room.notify_waiters();
        }
        Poll::Ready(())
    }

    /// Whether the peer took some of what was written to it last.
    pub(super) fn progress(&self, some: bool) {
        let mut queue = self.queue();
        if some {
            queue.blocked = None;
        } else {
            queue.blocked.get_or_insert_with(Instant::now);
        }
    }

    /// There is no stream any more, or none yet: nobody waits for word of what is written.
    pub(super) fn fail(&self) {
        let mut queue = self.queue();
        queue.marks.clear();
        queue.blocked.get_or_insert_with(Instant::now);
    }

    /// All that was taken is written.
    pub(super) fn flushed(&self) {
        let mut queue = self.queue();
        queue.announcing = false;
        if queue.subscriptions.is_empty() {
            for mark in queue.marks.drain(..) {
                // Whoever has given up need not know.
                let _ = mark.send(());
            }
        }
    }
}

/// Takes the first `written` bytes off; a large buffer is not kept.
pub(super) fn consume(output: &mut BytesMut, written: usize) {
    output.advance(written);
    if output.is_empty() && output.capacity() > MAX_BATCH {
        *output = BytesMut::new();
    }
}
