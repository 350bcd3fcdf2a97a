//! Topics that clients of this daemon are subscribed to, and the way to those clients.
//!
//! A subscriber that does not keep up loses messages and holds up nobody.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;

use super::{Message, SubscribeError, router::Router};
use crate::limit_hits::Limit;

/// Messages that wait for one subscriber; a further one is dropped (Go holds 32).
const MAX_QUEUED: usize = 4096;

/// Bytes of them. One message is taken whatever its size.
const MAX_QUEUED_BYTES: usize = 8 << 20;

/// Topics that clients are subscribed to.
const MAX_TOPICS: usize = 16 * 1024;

/// Longest name of a topic that is subscribed to, here or by a peer, in bytes.
pub const MAX_TOPIC: usize = 1024;

/// Bytes of all their names: a new peer is told all of them in one RPC, which must not be
/// larger than a message may be.
const MAX_NAMES: usize = 512 * 1024;

/// Subscriptions of all clients together.
const MAX_SUBSCRIPTIONS: usize = 32 * 1024;

/// Time between two log lines about one slow subscriber.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Tells whether a subscriber has gone, before its subscription has been dropped.
type Probe = Box<dyn Fn() -> bool + Send + Sync>;

/// The subscriptions of all clients.
#[derive(Debug, Default)]
pub(super) struct Topics {
    table: Mutex<Table>,
    /// Messages that slow subscribers have lost.
    pub(super) dropped: AtomicU64,
    /// Messages queued for subscribers.
    pub(super) delivered: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    topics: HashMap<String, Vec<Arc<Subscriber>>>,
    subscriptions: usize,
    /// Bytes of the names of `topics`.
    names: usize,
}

/// One client's subscription, as those see it who have something for it.
pub(super) struct Subscriber {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
    dropped: AtomicU64,
    logged: Mutex<Option<Instant>>,
    probe: OnceLock<Probe>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
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
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_gone(&self) -> bool {
        self.probe.get().is_some_and(|probe| probe())
    }

    /// Bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.waiting().bytes
    }

    /// Whether there was room.
    fn offer(&self, message: &Arc<Message>) -> bool {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + message.size();
        let fits = waiting.messages.is_empty() || bytes <= MAX_QUEUED_BYTES;
        if !fits || waiting.messages.len() >= MAX_QUEUED {
            drop(waiting);
            self.loses(1, message.topic());
            return false;
        }
        waiting.bytes = bytes;
        waiting.messages.push_back(message.clone());
        drop(waiting);
        self.reader.wake();
        true
    }

    fn take(&self) -> Option<Arc<Message>> {
        let mut waiting = self.waiting();
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.size();
        Some(message)
    }

    fn loses(&self, count: u64, topic: &str) {
        let dropped = self.dropped.fetch_add(count, Ordering::Relaxed) + count;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(topic, dropped, "a slow subscriber loses messages");
        }
    }
}

impl Topics {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscriber, whose topic `router` tells to peers.
    pub(super) fn subscribe(
        &self,
        topic: String,
        router: &Arc<Router>,
    ) -> Result<Subscription, SubscribeError> {
        if topic.len() > MAX_TOPIC {
            return Err(SubscribeError::NameTooLong(topic.len()));
        }
        let subscriber = Arc::new(Subscriber {
            waiting: Mutex::default(),
            reader: AtomicWaker::new(),
            dropped: AtomicU64::new(0),
            logged: Mutex::new(None),
            probe: OnceLock::new(),
        });
        let mut table = self.table();
        if table.subscriptions >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooManySubscriptions);
        }
        if !table.topics.contains_key(&topic) {
            let names = table.names + topic.len();
            if table.topics.len() >= MAX_TOPICS || names > MAX_NAMES {
                return Err(SubscribeError::TooManyTopics);
            }
            table.names = names;
        }
        table.subscriptions += 1;
        let subscribers = table.topics.entry(topic.clone()).or_default();
        subscribers.push(subscriber.clone());
        let first = subscribers.len() == 1;
        drop(table);
        if first {
            router.sync(&topic);
        }
        Ok(Subscription {
            router: router.clone(),
            topic,
            subscriber,
        })
    }

    /// Whether it was the topic's last one.
    fn unsubscribe(&self, topic: &str, subscriber: &Arc<Subscriber>) -> bool {
        let mut table = self.table();
        let Some(subscribers) = table.topics.get_mut(topic) else {
            return false;
        };
        let before = subscribers.len();
        subscribers.retain(|other| !Arc::ptr_eq(other, subscriber));
        let (left, after) = (before - subscribers.len(), subscribers.len());
        table.subscriptions -= left;
        if after == 0 {
            table.topics.remove(topic);
            table.names -= topic.len();
        }
        after == 0
    }

    /// Topics with a subscriber that is still there.
    pub(super) fn list(&self) -> Vec<String> {
        let topics: Vec<(String, Vec<Arc<Subscriber>>)> = self
            .table()
            .topics
            .iter()
            .map(|(name, subscribers)| (name.clone(), subscribers.clone()))
            .collect();
        topics
            .into_iter()
            .filter(|(_, subscribers)| subscribers.iter().any(|subscriber| !subscriber.is_gone()))
            .map(|(name, _)| name)
            .collect()
    }

    pub(super) fn has_subscribers(&self, topic: &str) -> bool {
        self.table().topics.contains_key(topic)
    }

    /// Queues `message` for the subscribers of its topic.
    pub(super) fn deliver(&self, message: &Arc<Message>) {
        let table = self.table();
        for subscriber in table.topics.get(&**message.topic()).into_iter().flatten() {
            if subscriber.offer(message) {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Limit::PubsubSubscribers.hit();
            }
        }
    }

    /// Every subscriber.
    pub(super) fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        self.table().topics.values().flatten().cloned().collect()
    }

    /// Drops what waits for a subscriber.
    pub(super) fn clear(&self, subscriber: &Subscriber) {
        let waiting = std::mem::take(&mut *subscriber.waiting());
        let count = waiting.messages.len() as u64;
        if let Some(message) = waiting.messages.front() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            subscriber.loses(count, message.topic());
            Limit::PubsubSubscribers.hit();
        }
    }
}

/// A client's subscription to one topic. Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    router: Arc<Router>,
    topic: String,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// The next message.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn next(&mut self) -> Arc<Message> {
        poll_fn(|cx| {
            self.subscriber.reader.register(cx.waker());
            self.subscriber.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next message, if it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Message>> {
        self.subscriber.take()
    }

    /// Sets how to tell that the subscriber has gone before this is dropped. There can be
    /// one; a second is ignored.
    pub fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.subscriber.probe.set(Box::new(is_gone));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self
            .router
            .topics()
            .unsubscribe(&self.topic, &self.subscriber)
        {
            self.router.sync(&self.topic);
        }
        let dropped = self.subscriber.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let topic = &self.topic;
            tracing::warn!(topic, dropped, "a slow subscriber has left");
        }
    }
}
