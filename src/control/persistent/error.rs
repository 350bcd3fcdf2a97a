//! Why a call has no answer.

use std::io::ErrorKind;

use crate::{
    memory::OverBudget,
    node::StreamError,
    wire::frame::{FrameError, ReadError},
};

/// Why a call has no answer (COMPATIBILITY.md 4.20).
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum CallError {
    /// There is no stream to the callee.
    #[error("no stream to the callee")]
    Open(#[source] StreamError),
    /// The callee no longer speaks the protocol.
    #[error("protocol refused by the callee")]
    Refused,
    /// The callee has closed without an answer.
    #[error("closed without an answer")]
    Closed,
    /// The callee has closed within its answer.
    #[error("closed within the answer")]
    Cut,
    /// The stream or its connection is lost.
    #[error("stream lost")]
    Lost(#[source] std::io::Error),
    /// The answer is larger than a frame may be.
    #[error("answer too large")]
    TooLarge,
    /// The answer is no message.
    #[error("undecodable answer: {0}")]
    Undecodable(String),
    /// The answer is neither a response nor an error.
    #[error("empty answer")]
    Empty,
    /// No protocol has a name of so many bytes.
    #[error("protocol name of {0} bytes")]
    BadName(usize),
    /// The client has too many calls under way, or too many bytes in them.
    #[error("too many calls")]
    TooMany,
    /// There is no room for the call or its answer.
    #[error(transparent)]
    OverBudget(OverBudget),
    /// The client has a call of that id under way.
    #[error("call id in use")]
    InUse,
    /// The daemon takes no further calls.
    #[error("daemon is shutting down")]
    Stopping,
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Closed,
            ReadError::Cut => Self::Cut,
            ReadError::Frame(FrameError::TooLarge { .. }) => Self::TooLarge,
            ReadError::Frame(error @ FrameError::BadLength) => Self::Undecodable(error.to_string()),
            ReadError::OverBudget(error) => Self::OverBudget(error),
            ReadError::TimedOut => Self::Lost(ErrorKind::TimedOut.into()),
            ReadError::Io(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Self::Refused,
                ErrorKind::UnexpectedEof => Self::Closed,
                _ => Self::Lost(error),
            },
        }
    }
}
