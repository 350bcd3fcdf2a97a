//! Messages that wait for one subscriber.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::{
    fixed_limits::fixed_limit,
    gone::Probe,
    memory::{Account, Charge},
    pubsub::message::Message,
};

/// Messages that wait for one subscriber. A further one is dropped (Go holds 32).
const MAX_QUEUED: usize = 4096;
fixed_limit!("pubsub: messages that wait for one subscriber", MAX_QUEUED);

/// Bytes of them. One message is accepted whatever its size.
const MAX_QUEUED_BYTES: usize = 8 << 20;
fixed_limit!("pubsub: memory of messages that wait for one subscriber", bytes MAX_QUEUED_BYTES);

/// Time between two log lines about one slow subscriber.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The queue of one subscription.
pub(in super::super) struct Subscriber {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
    dropped: AtomicU64,
    logged: Mutex<Option<Instant>>,
    probe: Probe,
}

#[derive(Debug)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    /// For all but the first: a subscriber that reads gets each message, whatever others hold.
    charge: Charge,
}

impl Waiting {
    /// What is to be charged for `messages` of so many `bytes`.
    fn charged(&self, bytes: usize) -> usize {
        bytes - self.messages.front().map_or(0, |first| first.size())
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("bytes", &self.bytes())
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl Subscriber {
    /// A queue whose messages are charged to `account`.
    pub(super) fn new(account: &Arc<Account>) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                messages: VecDeque::new(),
                bytes: 0,
                charge: account.empty_charge(),
            }),
            reader: AtomicWaker::new(),
            dropped: AtomicU64::new(0),
            logged: Mutex::new(None),
            probe: Probe::default(),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.probe.is_gone()
    }

    /// Sets how to tell that the subscriber has gone. There can be one; a second is ignored.
    pub(in super::super) fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        self.probe.set(is_gone);
    }

    /// Bytes of the messages that wait.
    pub(in super::super) fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }

    /// Messages dropped so far.
    pub(in super::super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Queues a message; false if there was no room.
    pub(super) fn push(&self, message: &Arc<Message>) -> bool {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes + message.size();
        let charged = waiting.charged(bytes);
        let fits = waiting.messages.is_empty()
            || bytes <= MAX_QUEUED_BYTES && waiting.charge.resize_dispensable(charged).is_ok();
        if !fits || waiting.messages.len() >= MAX_QUEUED {
            drop(waiting);
            self.count_dropped(1, message.topic());
            return false;
        }
        waiting.bytes = bytes;
        waiting.messages.push_back(message.clone());
        drop(waiting);
        self.reader.wake();
        true
    }

    /// The next message, if there is one.
    pub(in super::super) fn pop(&self) -> Option<Arc<Message>> {
        let mut waiting = self.waiting.lock();
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.size();
        let charged = waiting.charged(waiting.bytes);
        waiting.charge.shrink(charged);
        Some(message)
    }

    /// The next message.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub(in super::super) async fn next(&self) -> Arc<Message> {
        poll_fn(|cx| {
            self.reader.register(cx.waker());
            self.pop().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Drops what waits; the number of messages.
    pub(super) fn clear(&self) -> u64 {
        let messages = {
            let mut waiting = self.waiting.lock();
            waiting.bytes = 0;
            waiting.charge.shrink(0);
            std::mem::take(&mut waiting.messages)
        };
        let count = messages.len() as u64;
        if let Some(message) = messages.front() {
            self.count_dropped(count, message.topic());
        }
        count
    }

    fn count_dropped(&self, count: u64, topic: &[u8]) {
        let dropped = self.dropped.fetch_add(count, Relaxed) + count;
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(topic, dropped, "a slow subscriber loses messages");
        }
    }
}
