//! Clients that validate the messages of a topic (PROTOCOL.md 3).
//!
//! A message that comes is noted as seen, put into the queue of its topic's validator, and goes on when
//! the verdict comes. The stream that it came on does not wait. Every message leaves the queue: by its
//! verdict, at its deadline, or when the validator goes.

mod queue;
mod topic_validator;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{router::Router, subscriptions::MAX_TOPIC};
use crate::{fixed_limits::fixed_limit, memory::Account};
use queue::Queue;
pub(super) use queue::Submitter;
pub use topic_validator::{Ask, TopicValidator};

/// Topics that have a validator, or had one and wait for another (SECURITY.md 3).
pub(crate) const MAX_VALIDATORS: usize = 1024;
fixed_limit!("pubsub: topics with a validator", MAX_VALIDATORS);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is dropped, and whoever sent it is punished.
    Reject,
    /// It is dropped.
    Ignore,
}

/// How a client validates.
#[derive(Debug, Clone, Copy)]
pub struct ValidatorSettings {
    /// Time for each verdict.
    pub deadline: Duration,
    /// What a missing verdict counts as.
    pub late: Verdict,
    /// For so long after the client has gone, messages are ignored unless another one validates.
    pub hold: Duration,
}

/// Why a client may not validate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicValidatorError {
    /// Another one does.
    #[error("duplicate validator for topic {}", String::from_utf8_lossy(.0))]
    Duplicate(Arc<[u8]>),
    /// The topic's name in bytes is longer than may be.
    #[error("topic name of {0} bytes: must be at most {MAX_TOPIC} bytes long")]
    NameTooLong(usize),
    /// There are as many as may be.
    #[error("too many validators")]
    TooMany,
}

#[derive(Debug)]
enum Entry {
    Present(Arc<Queue>),
    /// There was one; messages are ignored until then.
    Gone(Instant),
}

/// The validators of all topics.
#[derive(Debug, Default)]
pub(super) struct Validators {
    /// How many entries there are. Most daemons have none, and look no further.
    count: AtomicUsize,
    table: Mutex<HashMap<Arc<[u8]>, Entry>>,
}

/// Who validates a message.
pub(super) enum Validation {
    By(Arc<Queue>),
    /// Nobody, and it is ignored.
    Held,
}

impl Validators {
    /// Who validates messages on `topic`; `None` if they go on without.
    pub(super) fn of(&self, topic: &[u8]) -> Option<Validation> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        match self.table.lock().get(topic)? {
            Entry::Present(queue) => Some(Validation::By(queue.clone())),
            Entry::Gone(until) => (Instant::now() < *until).then_some(Validation::Held),
        }
    }

    /// Makes a client the validator of `topic`. What waits for it is charged to `account`.
    pub(super) fn add(
        self: &Arc<Self>,
        router: &Arc<Router>,
        topic: Arc<[u8]>,
        settings: ValidatorSettings,
        account: &Arc<Account>,
    ) -> Result<TopicValidator, TopicValidatorError> {
        if topic.len() > MAX_TOPIC {
            return Err(TopicValidatorError::NameTooLong(topic.len()));
        }
        let now = Instant::now();
        let mut table = self.table.lock();
        table.retain(|_, entry| !matches!(entry, Entry::Gone(until) if *until <= now));
        if let Some(Entry::Present(present)) = table.get(&topic)
            && !present.probe.is_gone()
        {
            return Err(TopicValidatorError::Duplicate(topic));
        }
        if table.len() >= MAX_VALIDATORS && !table.contains_key(&topic) {
            return Err(TopicValidatorError::TooMany);
        }
        let queue = Arc::new(Queue::new(settings, account));
        table.insert(topic.clone(), Entry::Present(queue.clone()));
        self.count.store(table.len(), Relaxed);
        drop(table);
        Ok(TopicValidator::new(
            self.clone(),
            router.clone(),
            topic,
            queue,
        ))
    }

    /// The validator of `topic` with this queue has gone.
    fn remove(&self, topic: &Arc<[u8]>, queue: &Arc<Queue>) {
        let hold = queue.settings.hold;
        let mut table = self.table.lock();
        let of_it =
            |entry: &Entry| matches!(entry, Entry::Present(present) if Arc::ptr_eq(present, queue));
        if !table.get(topic).is_some_and(of_it) {
            // Another one has taken its place.
            return;
        }
        if hold.is_zero() {
            table.remove(topic);
        } else {
            table.insert(topic.clone(), Entry::Gone(Instant::now() + hold));
        }
        self.count.store(table.len(), Relaxed);
    }
}
