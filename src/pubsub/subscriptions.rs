//! Topics that clients of this daemon are subscribed to, and the queues of those clients.
//!
//! A subscriber that does not keep up loses messages and delays nobody.

mod queue;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::message::Message;
use crate::{fixed_limits::fixed_limit, limit_hits::Limit, memory::Account};
pub(super) use queue::Subscriber;

/// Topics that clients are subscribed to.
const MAX_TOPICS: usize = 16 * 1024;
fixed_limit!("pubsub: topics of all clients", MAX_TOPICS);

/// Longest name of a topic that is subscribed to, here or by a peer, in bytes.
pub const MAX_TOPIC: usize = 1024;
fixed_limit!("pubsub: topic", bytes MAX_TOPIC);

/// Bytes of the names of all topics that clients are subscribed to. A new peer is sent all of them
/// in one RPC, which must not be larger than a message may be.
const MAX_NAMES: usize = 512 * 1024;
fixed_limit!("pubsub: names of all topics of clients", bytes MAX_NAMES);

/// Subscriptions of all clients together.
const MAX_SUBSCRIPTIONS: usize = 32 * 1024;
fixed_limit!("pubsub: subscriptions of all clients", MAX_SUBSCRIPTIONS);

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The topic's name in bytes is longer than [`MAX_TOPIC`].
    #[error("topic name of {0} bytes")]
    NameTooLong(usize),
    /// There are as many topics as may be, or their names are as long.
    #[error("too many topics")]
    TooManyTopics,
    /// There are as many subscriptions as may be.
    #[error("too many subscriptions")]
    TooManySubscriptions,
}

/// The subscriptions of all clients.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    table: Mutex<Table>,
    /// Messages that slow subscribers have lost.
    pub(super) dropped: AtomicU64,
    /// Messages queued for subscribers.
    pub(super) delivered: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    topics: HashMap<Arc<[u8]>, Vec<Arc<Subscriber>>>,
    subscriptions: usize,
    /// Bytes of the names of `topics`.
    names: usize,
}

impl Subscriptions {
    /// Adds a subscriber, and says whether it is the first one of its topic.
    pub(super) fn add(
        &self,
        topic: &[u8],
        account: &Arc<Account>,
    ) -> Result<(Arc<Subscriber>, bool), SubscribeError> {
        if topic.len() > MAX_TOPIC {
            return Err(SubscribeError::NameTooLong(topic.len()));
        }
        let subscriber = Arc::new(Subscriber::new(account));
        let mut table = self.table.lock();
        if table.subscriptions >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooManySubscriptions);
        }
        if !table.topics.contains_key(topic) {
            let names = table.names + topic.len();
            if table.topics.len() >= MAX_TOPICS || names > MAX_NAMES {
                return Err(SubscribeError::TooManyTopics);
            }
            table.names = names;
        }
        table.subscriptions += 1;
        let subscribers = table.topics.entry(topic.into()).or_default();
        subscribers.push(subscriber.clone());
        let first = subscribers.len() == 1;
        Ok((subscriber, first))
    }

    /// Removes a subscriber, and says whether it was the last one of its topic.
    pub(super) fn remove(&self, topic: &[u8], subscriber: &Arc<Subscriber>) -> bool {
        let mut table = self.table.lock();
        let Some(subscribers) = table.topics.get_mut(topic) else {
            return false;
        };
        let before = subscribers.len();
        subscribers.retain(|other| !Arc::ptr_eq(other, subscriber));
        let after = subscribers.len();
        table.subscriptions -= before - after;
        if after == 0 {
            table.topics.remove(topic);
            table.names -= topic.len();
        }
        after == 0
    }

    /// Topics with a subscriber that is still there.
    pub(super) fn list(&self) -> Vec<Arc<[u8]>> {
        let topics: Vec<_> = {
            let table = self.table.lock();
            let topics = table.topics.iter();
            topics
                .map(|(name, subscribers)| (name.clone(), subscribers.clone()))
                .collect()
        };
        topics
            .into_iter()
            .filter(|(_, subscribers)| subscribers.iter().any(|subscriber| !subscriber.is_gone()))
            .map(|(name, _)| name)
            .collect()
    }

    pub(super) fn has_subscribers(&self, topic: &[u8]) -> bool {
        self.table.lock().topics.contains_key(topic)
    }

    /// The number of subscribers of each topic.
    pub(super) fn counts(&self) -> HashMap<Arc<[u8]>, usize> {
        let table = self.table.lock();
        let topics = table.topics.iter();
        topics
            .map(|(name, subscribers)| (name.clone(), subscribers.len()))
            .collect()
    }

    /// Queues `message` for the subscribers of its topic.
    pub(super) fn deliver(&self, message: &Arc<Message>) {
        let table = self.table.lock();
        for subscriber in table.topics.get(&**message.topic()).into_iter().flatten() {
            if subscriber.push(message) {
                self.delivered.fetch_add(1, Relaxed);
            } else {
                self.dropped.fetch_add(1, Relaxed);
                Limit::PubsubSubscribers.hit();
            }
        }
    }

    /// Every subscriber.
    pub(super) fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        let table = self.table.lock();
        table.topics.values().flatten().cloned().collect()
    }

    /// Drops what waits for a subscriber.
    pub(super) fn clear(&self, subscriber: &Subscriber) {
        let count = subscriber.clear();
        if count > 0 {
            self.dropped.fetch_add(count, Relaxed);
            Limit::PubsubSubscribers.hit();
        }
    }
}
