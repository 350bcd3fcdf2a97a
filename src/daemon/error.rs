//! Why the daemon did not start.

use std::io;

use libp2p::identity::SigningError;
use tokio::task;

use crate::{
    control::web::WebError,
    dht::disk::DiskError,
    node::{StartError, rules::RulesFileError},
};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The system gives no threads, or takes no handlers of signals.
    #[error(transparent)]
    Runtime(io::Error),
    /// A task of the start has panicked.
    #[error(transparent)]
    Panicked(#[from] task::JoinError),
    /// Control over HTTP cannot be had.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The datastore cannot be used.
    #[error(transparent)]
    Datastore(#[from] DiskError),
    /// The rules about connections cannot be read.
    #[error(transparent)]
    Rules(#[from] RulesFileError),
    /// There is no node.
    #[error(transparent)]
    Node(#[from] StartError),
    /// Pubsub cannot sign.
    #[error(transparent)]
    PubSub(#[from] SigningError),
    /// No bootstrap peer was reached.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// No bootstrap peer was reached, for these reasons.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JoinError(pub(super) String);
