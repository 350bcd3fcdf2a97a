//! A client's subscription.

use std::sync::Arc;

use super::{
    message::Message,
    router::Router,
    subscriptions::{SubscribeError, Subscriber},
};
use crate::memory::Account;

/// A client's subscription to one topic. Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    router: Arc<Router>,
    topic: Arc<[u8]>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Subscribes to `topic`, and announces it to peers if it is new here.
    pub(super) fn new(
        router: &Arc<Router>,
        topic: Arc<[u8]>,
        account: &Arc<Account>,
    ) -> Result<Self, SubscribeError> {
        let (subscriber, first) = router.subscriptions().add(&topic, account)?;
        if first {
            router.update_subscription(&topic);
        }
        Ok(Self {
            router: router.clone(),
            topic,
            subscriber,
        })
    }

    /// The next message.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn next(&mut self) -> Arc<Message> {
        self.subscriber.next().await
    }

    /// The next message, if it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Message>> {
        self.subscriber.pop()
    }

    /// Sets how to tell that the subscriber has gone before this is dropped. There can be
    /// one; a second is ignored.
    pub fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        self.subscriber.set_probe(is_gone);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let subscriptions = self.router.subscriptions();
        if subscriptions.remove(&self.topic, &self.subscriber) {
            self.router.update_subscription(&self.topic);
        }
        let dropped = self.subscriber.dropped();
        if dropped > 0 {
            let topic = &*String::from_utf8_lossy(&self.topic);
            tracing::warn!(topic, dropped, "a slow subscriber has left");
        }
    }
}
