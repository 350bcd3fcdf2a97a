//! What a request leads to.

use super::{request::Rejected, response, tunnels::Kept};
use crate::{
    dht::ClientValidator,
    events::Follower,
    node::OpenedStream,
    pubsub::{Subscription, TopicValidator},
    wire::pb,
};

/// What a request leads to.
pub(super) enum Outcome {
    Answer(pb::Response),
    /// What the answer tells of lasts as long as the connection.
    Holding(pb::Response, Kept),
    /// All answers are out.
    Answered,
    /// No further request is read.
    Last(Last),
}

/// What the last request of a connection leads to.
pub(super) enum Last {
    /// The connection carries this stream from now on.
    Stream(pb::Response, Box<OpenedStream>),
    /// The connection carries these messages from now on.
    Feed(pb::Response, Subscription),
    /// The connection carries these events from now on.
    Events(pb::Response, Follower),
    /// The connection validates messages from now on.
    ValidateMessages(pb::Response, TopicValidator),
    /// The connection validates records from now on.
    ValidateRecords(pb::Response, ClientValidator),
    /// The connection is to be a persistent one.
    Upgrade,
    /// The answer is the last one.
    Close(pb::Response),
    /// Nobody waits for an answer.
    Abandoned,
}

impl Outcome {
    /// Whether the client has got what it requested.
    pub(super) fn is_success(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.r#type() == pb::response::Type::Ok,
            Self::Holding(..) | Self::Answered => true,
            Self::Last(last) => !matches!(last, Last::Close(_) | Last::Abandoned),
        }
    }
}

impl From<Last> for Outcome {
    fn from(last: Last) -> Self {
        Self::Last(last)
    }
}

impl From<Rejected> for Outcome {
    fn from(rejected: Rejected) -> Self {
        tracing::debug!(reason = rejected.reason, "request rejected");
        let answer = response::error(rejected.reason);
        if rejected.close {
            Last::Close(answer).into()
        } else {
            Self::Answer(answer)
        }
    }
}
