//! The validator of one namespace, as its client's connection has it.

use std::sync::Arc;

use super::{
    Unvalidated, Validators,
    queue::{Question, Queue, Verdict},
};
use crate::limit_hits::Limit;

/// The validator of one namespace. Ends when dropped.
#[derive(Debug)]
pub struct ClientValidator {
    validators: Arc<Validators>,
    namespace: Box<[u8]>,
    queue: Arc<Queue>,
}

impl ClientValidator {
    pub(super) fn new(
        validators: Arc<Validators>,
        namespace: Box<[u8]>,
        queue: Arc<Queue>,
    ) -> Self {
        Self {
            validators,
            namespace,
            queue,
        }
    }

    /// `is_gone` tells whether the client has gone, before the validator is dropped: another one may
    /// take its place then.
    pub fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        self.queue.probe.set(is_gone);
    }

    /// The next question, if it is there already.
    #[must_use]
    pub fn try_next(&self) -> Option<Question> {
        self.queue.next_question()
    }

    /// The next question.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn next(&self) -> Question {
        loop {
            if let Some(question) = self.try_next() {
                return question;
            }
            self.queue.questions.notified().await;
        }
    }

    /// The verdict about a question that was asked. One about any other changes nothing, and is
    /// counted.
    pub fn rule(&self, id: u64, verdict: Verdict) {
        if !self.queue.rule(id, verdict) {
            Limit::DhtStrayVerdicts.hit();
        }
    }

    /// The question with this number cannot be asked.
    pub fn give_up(&self, id: u64) {
        self.queue.give_up(id, Unvalidated::Full);
    }
}

impl Drop for ClientValidator {
    fn drop(&mut self) {
        self.validators.remove(&self.namespace, &self.queue);
        self.queue.close();
    }
}
