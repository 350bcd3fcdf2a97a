//! What a client connection is once it carries requests no more.

use std::{io, sync::Arc};

use super::{
    clients::{Clients, Use},
    events::EventFeed,
    persistent::Persistent,
    pipe::Pipe,
    pubsub::Feed,
    validators::ValidatorSession,
};
use crate::{dht::ClientValidator, pubsub::TopicValidator};

/// What the connection is used for after the requests.
pub(super) enum Mode {
    Closed,
    Pipe(Pipe),
    Feed(Box<Feed>),
    Events(Box<EventFeed>),
    ValidateMessages(Box<ValidatorSession<TopicValidator>>),
    ValidateRecords(Box<ValidatorSession<ClientValidator>>),
    Persistent(Persistent),
}

impl Mode {
    /// What has become a pipe, or else what it is.
    pub(super) fn pipe(self) -> Result<Pipe, Box<Self>> {
        match self {
            Self::Pipe(pipe) => Ok(pipe),
            other => Err(Box::new(other)),
        }
    }

    pub(super) async fn run(self, clients: &Arc<Clients>) -> io::Result<()> {
        match self {
            Self::Closed => Ok(()),
            Self::Pipe(pipe) => {
                pipe.await;
                Ok(())
            }
            Self::Feed(feed) => {
                let _present = clients.enter(Use::Subscription);
                feed.run().await
            }
            Self::Events(feed) => {
                let _present = clients.enter(Use::Subscription);
                feed.run().await
            }
            Self::ValidateMessages(session) => {
                let _present = clients.enter(Use::Subscription);
                session.run().await
            }
            Self::ValidateRecords(session) => {
                let _present = clients.enter(Use::Subscription);
                session.run().await
            }
            Self::Persistent(persistent) => {
                let _present = clients.enter(Use::Persistent);
                persistent.run().await
            }
        }
    }
}
