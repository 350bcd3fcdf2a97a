//! Who may be connected with, by the word of clients (PROTOCOL.md 5).
//!
//! An address is judged by the network with the longest prefix that contains it, a peer by its own rule or
//! else by that for every peer. A connection needs both to be allowed. With a datastore the rules stand in
//! a file beside it, which is written before they hold.

mod file;
mod table;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use parking_lot::RwLock;
use tokio::task::spawn_blocking;

pub use file::RulesFileError;
use table::Table;
pub use table::{Action, Rule, Subject};

use crate::fixed_limits::fixed_limit;

/// Rules (SECURITY.md 3).
pub(crate) const MAX_RULES: usize = 4096;
fixed_limit!("rules about connections", MAX_RULES);

/// Go's text for a connection that a connection gater forbids.
const FORBIDDEN: &str = "gater disallows connection to peer";

/// Rules forbid the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{FORBIDDEN}")]
pub(super) struct Forbidden;

/// Why rules are not changed.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// There would be more than may be.
    #[error("too many rules: at most {MAX_RULES}")]
    TooMany,
    /// There is none for it.
    #[error("no rule for {0}")]
    Unknown(Subject),
    /// They cannot be kept.
    #[error(transparent)]
    File(#[from] RulesFileError),
    /// The daemon is stopping.
    #[error("daemon is shutting down")]
    Stopping,
}

/// The rules. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rules(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether there are any. Most daemons have none, and look no further.
    any: AtomicBool,
    table: RwLock<Table>,
    path: Option<PathBuf>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Rules {
    /// Those that the file at `path` holds; it need not be there yet. Blocks.
    ///
    /// # Errors
    /// [`RulesFileError`]; a daemon must not start without rules that it had.
    pub fn open(path: PathBuf) -> Result<Self, RulesFileError> {
        let table = file::read(&path)?;
        Ok(Self(Arc::new(Shared {
            any: AtomicBool::new(!table.is_empty()),
            table: RwLock::new(table),
            path: Some(path),
            changing: tokio::sync::Mutex::default(),
        })))
    }

    /// Whether `peer` may be connected with.
    pub(super) fn allow_peer(&self, peer: &PeerId) -> bool {
        !self.0.any.load(Relaxed) || self.0.table.read().of_peer(peer) == Action::Allow
    }

    /// Whether there may be a connection with `address`. That of a circuit is its relay's; what is only
    /// a name is looked at once it is resolved.
    pub(super) fn allow_address(&self, address: &Multiaddr) -> bool {
        if !self.0.any.load(Relaxed) {
            return true;
        }
        let ip = address.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(ip.into()),
            Protocol::Ip6(ip) => Some(ip.to_canonical()),
            _ => None,
        });
        ip.is_none_or(|ip| self.0.table.read().of_ip(ip) == Action::Allow)
    }

    /// All of them: networks, peers, and the one for every peer.
    pub(super) fn list(&self) -> Vec<Rule> {
        self.0.table.read().list()
    }

    /// Adds rules; one of the same subject is replaced.
    pub(super) async fn add(&self, rules: Vec<Rule>) -> Result<(), RuleError> {
        self.change(|table| {
            for rule in rules {
                table.insert(rule);
            }
            (table.len() <= MAX_RULES)
                .then_some(())
                .ok_or(RuleError::TooMany)
        })
        .await
    }

    /// Removes the rules of all `subjects`, or none.
    pub(super) async fn remove(&self, subjects: Vec<Subject>) -> Result<(), RuleError> {
        self.change(|table| {
            for subject in subjects {
                if !table.remove(&subject) {
                    return Err(RuleError::Unknown(subject));
                }
            }
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Table) -> Result<(), RuleError>,
    ) -> Result<(), RuleError> {
        let shared = &self.0;
        let _turn = shared.changing.lock().await;
        let mut table = shared.table.read().clone();
        change(&mut table)?;
        if let Some(path) = shared.path.clone() {
            let text = file::encode(&table);
            let written = spawn_blocking(move || file::write(&path, &text)).await;
            written.map_err(|_| RuleError::Stopping)??;
        }
        let any = !table.is_empty();
        *shared.table.write() = table;
        shared.any.store(any, Relaxed);
        Ok(())
    }
}
