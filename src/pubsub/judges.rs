//! Clients that judge the messages of a topic (PROTOCOL.md 3).
//!
//! A message that comes is noted as seen, put into the queue of its topic's judge, and goes on when
//! the verdict comes. The stream that it came on does not wait. Every message leaves the queue: by its
//! verdict, at its deadline, or when the judge goes.

mod judge;
mod queue;

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
pub use judge::{Ask, Judge};
use queue::Queue;
pub(super) use queue::Submitter;

/// Topics that have a judge, or had one and wait for another (SECURITY.md 3).
pub(crate) const MAX_JUDGES: usize = 1024;
fixed_limit!("pubsub: topics with a validator", MAX_JUDGES);

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

/// How a client judges.
#[derive(Debug, Clone, Copy)]
pub struct JudgeSettings {
    /// Time for each verdict.
    pub deadline: Duration,
    /// What a missing verdict counts as.
    pub late: Verdict,
    /// For so long after the client has gone, messages are ignored unless another one judges.
    pub hold: Duration,
}

/// Why a client may not judge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
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

/// The judges of all topics.
#[derive(Debug, Default)]
pub(super) struct Judges {
    /// How many entries there are. Most daemons have none, and look no further.
    count: AtomicUsize,
    table: Mutex<HashMap<Arc<[u8]>, Entry>>,
}

/// Who judges a message.
pub(super) enum Court {
    Judge(Arc<Queue>),
    /// Nobody, and it is ignored.
    Closed,
}

impl Judges {
    /// Who judges messages on `topic`; `None` if they go on without.
    pub(super) fn of(&self, topic: &[u8]) -> Option<Court> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        match self.table.lock().get(topic)? {
            Entry::Present(queue) => Some(Court::Judge(queue.clone())),
            Entry::Gone(until) => (Instant::now() < *until).then_some(Court::Closed),
        }
    }

    /// Makes a client the judge of `topic`. What waits for it is charged to `account`.
    pub(super) fn add(
        self: &Arc<Self>,
        router: &Arc<Router>,
        topic: Arc<[u8]>,
        settings: JudgeSettings,
        account: &Arc<Account>,
    ) -> Result<Judge, JudgeError> {
        if topic.len() > MAX_TOPIC {
            return Err(JudgeError::NameTooLong(topic.len()));
        }
        let now = Instant::now();
        let mut table = self.table.lock();
        table.retain(|_, entry| !matches!(entry, Entry::Gone(until) if *until <= now));
        if let Some(Entry::Present(present)) = table.get(&topic)
            && !present.probe.is_gone()
        {
            return Err(JudgeError::Duplicate(topic));
        }
        if table.len() >= MAX_JUDGES && !table.contains_key(&topic) {
            return Err(JudgeError::TooMany);
        }
        let queue = Arc::new(Queue::new(settings, account));
        table.insert(topic.clone(), Entry::Present(queue.clone()));
        self.count.store(table.len(), Relaxed);
        drop(table);
        Ok(Judge::new(self.clone(), router.clone(), topic, queue))
    }

    /// The judge of `topic` with this queue has gone.
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
