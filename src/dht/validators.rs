//! Clients that validate the records of a namespace (PROTOCOL.md 6).
//!
//! Whoever has a record to validate puts a question into the queue of its namespace's validator and waits
//! for the verdict, for as long as that may take. Nobody else waits. Every question leaves the queue: by
//! its verdict, at its deadline, with whoever asks, or when the validator goes.

mod client;
mod queue;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    record,
    record::{Unvalidated, Validator},
};
use crate::{fixed_limits::fixed_limit, memory::Account};
pub use client::ClientValidator;
pub(super) use queue::Queue;
pub use queue::{Question, Verdict};

/// Namespaces that have a validator (SECURITY.md 3).
pub(crate) const MAX_VALIDATORS: usize = 256;
fixed_limit!("DHT: namespaces that clients validate", MAX_VALIDATORS);

/// Longest name of a namespace, in bytes (PROTOCOL.md 6).
pub(crate) const MAX_NAMESPACE: usize = 64;

/// Who waits for a verdict. A part of the room is kept for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Client,
    Peer,
}

/// Why a client may not validate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorError {
    /// Another one does.
    #[error("duplicate validator for namespace {0}")]
    Duplicate(String),
    /// Its rules are those of libp2p.
    #[error("namespace {0} is validated by the daemon itself")]
    Own(String),
    /// No key can be below it.
    #[error("namespace of {0} bytes: must be 1 to {MAX_NAMESPACE} bytes long, without a slash")]
    Name(usize),
    /// There are as many as may be.
    #[error("too many validators")]
    TooMany,
}

/// The validators of all namespaces that have one.
#[derive(Debug, Default)]
pub(super) struct Validators {
    /// How many there are. Most daemons have none, and look no further.
    count: AtomicUsize,
    table: Mutex<HashMap<Box<[u8]>, Arc<Queue>>>,
}

impl Validators {
    /// The validator of the records at `key`, unless its client has closed.
    pub(super) fn of(&self, key: &[u8]) -> Option<Arc<Queue>> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let (namespace, _) = record::split(key)?;
        let queue = self.table.lock().get(namespace).cloned()?;
        (!queue.probe.is_gone()).then_some(queue)
    }

    /// Makes a client the validator of `namespace`. What waits for it is charged to `account`.
    pub(super) fn add(
        self: &Arc<Self>,
        namespace: &[u8],
        deadline: Duration,
        account: &Arc<Account>,
    ) -> Result<ClientValidator, ValidatorError> {
        let name = || String::from_utf8_lossy(namespace).into_owned();
        if namespace.len() > MAX_NAMESPACE || namespace.is_empty() || namespace.contains(&b'/') {
            return Err(ValidatorError::Name(namespace.len()));
        }
        if Validator::is_own(namespace) {
            return Err(ValidatorError::Own(name()));
        }
        let mut table = self.table.lock();
        let present = table.get(namespace);
        if present.is_some_and(|present| !present.probe.is_gone()) {
            return Err(ValidatorError::Duplicate(name()));
        }
        if present.is_none() && table.len() >= MAX_VALIDATORS {
            return Err(ValidatorError::TooMany);
        }
        let queue = Arc::new(Queue::new(name(), deadline, account));
        table.insert(namespace.into(), queue.clone());
        self.count.store(table.len(), Relaxed);
        drop(table);
        Ok(ClientValidator::new(self.clone(), namespace.into(), queue))
    }

    /// The validator with this queue has gone.
    fn remove(&self, namespace: &[u8], queue: &Arc<Queue>) {
        let mut table = self.table.lock();
        // Another one may have taken its place.
        let is_present = table
            .get(namespace)
            .is_some_and(|present| Arc::ptr_eq(present, queue));
        if is_present {
            table.remove(namespace);
            self.count.store(table.len(), Relaxed);
        }
    }
}
