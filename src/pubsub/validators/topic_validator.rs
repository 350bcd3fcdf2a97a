//! The validator of one topic, as its client's connection has it.

use std::{sync::Arc, time::Instant};

use libp2p::PeerId;
use tokio::time::sleep_until;

use super::{
    Validators, Verdict,
    queue::{Queue, Ruled},
};
use crate::{
    limit_hits::Limit,
    pubsub::{FORWARD_PATIENCE, message::Message, router::Router},
};

/// A message to be validated.
#[derive(Debug)]
pub struct Ask {
    /// 1, 2, 3, ... for each validator.
    pub id: u64,
    /// Who sent it; `None` if a client here publishes it.
    pub peer: Option<PeerId>,
    /// The message.
    pub message: Arc<Message>,
}

/// The validator of one topic. Ends when dropped.
#[derive(Debug)]
pub struct TopicValidator {
    validators: Arc<Validators>,
    router: Arc<Router>,
    topic: Arc<[u8]>,
    queue: Arc<Queue>,
}

impl TopicValidator {
    pub(super) fn new(
        validators: Arc<Validators>,
        router: Arc<Router>,
        topic: Arc<[u8]>,
        queue: Arc<Queue>,
    ) -> Self {
        Self {
            validators,
            router,
            topic,
            queue,
        }
    }

    /// `is_gone` tells whether the client has gone, before the validator is dropped: another one may take
    /// its place then.
    pub fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        self.queue.probe.set(is_gone);
    }

    /// The next message to be validated, if it is there already.
    #[must_use]
    pub fn try_next(&self) -> Option<Ask> {
        let (id, peer, message) = self.queue.next_ask()?;
        Some(Ask { id, peer, message })
    }

    /// The next message to be validated.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn next(&self) -> Ask {
        loop {
            if let Some(ask) = self.try_next() {
                return ask;
            }
            self.queue.asks.notified().await;
        }
    }

    /// The verdict about a message that was asked about. One about any other changes nothing, and is
    /// counted.
    pub fn rule(&self, id: u64, verdict: Verdict) {
        match self.queue.rule(id, verdict, true) {
            Ruled::Done => {}
            Ruled::Rejected(peer) => self.router.rejected_by_validator(peer),
            Ruled::Stray => Limit::PubsubStrayVerdicts.hit(),
        }
    }

    /// The verdict about a message does not come.
    pub fn give_up(&self, id: u64) {
        if let Ruled::Rejected(peer) = self.queue.rule(id, self.queue.settings.late, false) {
            self.router.rejected_by_validator(peer);
        }
    }

    /// Forwards what was accepted, and gives up what is not validated in time. Runs until dropped.
    pub async fn run(&self) {
        tokio::join!(self.forward(), self.expire());
    }

    async fn forward(&self) {
        loop {
            let Some((message, peer)) = self.queue.next_accepted() else {
                self.queue.accepts.notified().await;
                continue;
            };
            self.router
                .forward(&message, Some(peer), FORWARD_PATIENCE)
                .await;
            self.router.subscriptions().deliver(&message);
        }
    }

    async fn expire(&self) {
        loop {
            match self.queue.deadline() {
                None => self.queue.deadlines.notified().await,
                Some(deadline) => {
                    sleep_until(deadline.into()).await;
                    while let Some(id) = self.queue.overdue(Instant::now()) {
                        Limit::PubsubVerdictTime.hit();
                        self.give_up(id);
                    }
                }
            }
        }
    }
}

impl Drop for TopicValidator {
    fn drop(&mut self) {
        self.validators.remove(&self.topic, &self.queue);
        while let Some(id) = self.queue.close() {
            self.give_up(id);
        }
        while let Some((message, peer)) = self.queue.next_accepted() {
            self.router.forward_now(&message, Some(peer));
            self.router.subscriptions().deliver(&message);
        }
    }
}
