//! Questions that wait for the verdicts of one validator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{Asker, Unvalidated};
use crate::{
    dht::RecordError,
    fixed_limits::fixed_limit,
    gone::Probe,
    limit_hits::Limit,
    memory::{Account, Charge},
};

/// Questions that wait for one validator (SECURITY.md 3).
pub(crate) const MAX_QUESTIONS: usize = 1024;
fixed_limit!("DHT: records that wait for one validator", MAX_QUESTIONS);

/// Bytes of their keys and values (SECURITY.md 3).
pub(crate) const MAX_QUESTION_BYTES: usize = 16 << 20;
fixed_limit!("DHT: memory of records that wait for one validator", bytes MAX_QUESTION_BYTES);

/// Of both, what questions of peers may use: the rest is kept for clients.
const SHARE_OF_PEERS: (usize, usize) = (3, 4);

/// Bytes that a question takes besides its key and values.
const OVERHEAD: usize = 512;

/// What a validator is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// 1, 2, 3, ... for each validator.
    pub id: u64,
    /// Where the values are to be stored.
    pub key: Bytes,
    /// Is it valid? Of several, which is the best?
    pub values: Vec<Bytes>,
    /// Which of the two.
    pub selects: bool,
}

/// What a validator says, of what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the value is valid.
    pub valid: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Which value is the best.
    pub best: Option<usize>,
}

type Reply = Result<Verdict, Unvalidated>;

#[derive(Debug)]
struct Waiting {
    question: Question,
    reply: oneshot::Sender<Reply>,
}

#[derive(Debug)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
    /// The highest number that the validator was asked.
    asked: u64,
    bytes: usize,
    charge: Charge,
    /// The validator has gone.
    closed: bool,
}

/// The questions to one validator.
#[derive(Debug)]
pub(in super::super) struct Queue {
    namespace: String,
    deadline: Duration,
    state: Mutex<State>,
    /// There is something to ask.
    pub(super) questions: Notify,
    pub(super) probe: Probe,
}

/// A question that somebody waits for. Leaves the queue when dropped.
struct Asked<'a> {
    queue: &'a Queue,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.queue.take(self.id);
    }
}

fn size(question: &Question) -> usize {
    let values: usize = question.values.iter().map(Bytes::len).sum();
    OVERHEAD + question.key.len() + values
}

impl Queue {
    pub(super) fn new(namespace: String, deadline: Duration, account: &Arc<Account>) -> Self {
        Self {
            namespace,
            deadline,
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                last: 0,
                asked: 0,
                bytes: 0,
                charge: account.empty_charge(),
                closed: false,
            }),
            questions: Notify::new(),
            probe: Probe::default(),
        }
    }

    /// Whether `value` may be stored at `key`.
    ///
    /// # Cancel safety
    /// Dropped, it is no longer asked.
    pub(in super::super) async fn validate(
        &self,
        asker: Asker,
        key: &[u8],
        value: &Bytes,
    ) -> Result<(), RecordError> {
        let verdict = self.ask(asker, key, vec![value.clone()], false).await?;
        if verdict.valid {
            return Ok(());
        }
        let reason = verdict.reason.filter(|reason| !reason.is_empty());
        Err(RecordError::Refused(reason.unwrap_or_else(|| {
            format!(
                "record refused by the validator of namespace {}",
                self.namespace
            )
        })))
    }

    /// The index of the best of `values`.
    ///
    /// # Cancel safety
    /// Dropped, it is no longer asked.
    pub(in super::super) async fn select(
        &self,
        asker: Asker,
        key: &[u8],
        values: Vec<Bytes>,
    ) -> Result<usize, RecordError> {
        let count = values.len();
        let verdict = self.ask(asker, key, values, true).await?;
        match verdict.best {
            Some(best) if best < count => Ok(best),
            _ => {
                Limit::DhtStrayVerdicts.hit();
                Err(self.unvalidated(Unvalidated::NoChoice))
            }
        }
    }

    fn unvalidated(&self, why: Unvalidated) -> RecordError {
        RecordError::Unvalidated(self.namespace.clone(), why)
    }

    async fn ask(
        &self,
        asker: Asker,
        key: &[u8],
        values: Vec<Bytes>,
        selects: bool,
    ) -> Result<Verdict, RecordError> {
        let deadline = Instant::now() + self.deadline;
        let submitted = self.submit(asker, key, values, selects);
        let (id, reply) = submitted.map_err(|why| self.unvalidated(why))?;
        let _asked = Asked { queue: self, id };
        let told = match timeout_at(deadline, reply).await {
            Ok(told) => told.unwrap_or(Err(Unvalidated::Gone)),
            Err(_) => {
                Limit::DhtVerdictTime.hit();
                Err(Unvalidated::Late)
            }
        };
        told.map_err(|why| self.unvalidated(why))
    }

    fn submit(
        &self,
        asker: Asker,
        key: &[u8],
        values: Vec<Bytes>,
        selects: bool,
    ) -> Result<(u64, oneshot::Receiver<Reply>), Unvalidated> {
        let (part, whole) = match asker {
            Asker::Client => (1, 1),
            Asker::Peer => SHARE_OF_PEERS,
        };
        let mut state = self.state.lock();
        if state.closed {
            return Err(Unvalidated::Gone);
        }
        let id = state.last + 1;
        let question = Question {
            id,
            key: Bytes::copy_from_slice(key),
            values,
            selects,
        };
        let bytes = state.bytes + size(&question);
        let fits = state.waiting.len() < MAX_QUESTIONS * part / whole
            && bytes <= MAX_QUESTION_BYTES * part / whole;
        if !fits || state.charge.resize_dispensable(bytes).is_err() {
            drop(state);
            Limit::DhtJudges.hit();
            return Err(Unvalidated::Full);
        }
        let (reply, told) = oneshot::channel();
        state.bytes = bytes;
        state.last = id;
        state.waiting.insert(id, Waiting { question, reply });
        drop(state);
        self.questions.notify_one();
        Ok((id, told))
    }

    /// The next question that was not asked.
    pub(super) fn next_question(&self) -> Option<Question> {
        let mut state = self.state.lock();
        let after = state.asked + 1;
        let (_, waiting) = state.waiting.range(after..).next()?;
        let question = waiting.question.clone();
        state.asked = question.id;
        Some(question)
    }

    /// The verdict about a question that was asked and still waits; false if there is none.
    pub(super) fn rule(&self, id: u64, verdict: Verdict) -> bool {
        let asked = self.state.lock().asked;
        let waiting = (id <= asked).then(|| self.take(id)).flatten();
        waiting.is_some_and(|waiting| waiting.reply.send(Ok(verdict)).is_ok())
    }

    pub(super) fn give_up(&self, id: u64, why: Unvalidated) {
        if let Some(waiting) = self.take(id) {
            // Whoever asked may have gone.
            let _ = waiting.reply.send(Err(why));
        }
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        let mut state = self.state.lock();
        let waiting = state.waiting.remove(&id)?;
        state.bytes -= size(&waiting.question);
        let bytes = state.bytes;
        state.charge.shrink(bytes);
        Some(waiting)
    }

    /// Takes no more questions; those that wait have no verdict.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.bytes = 0;
        state.charge.shrink(0);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }
}
