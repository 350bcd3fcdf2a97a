//! The persistent connections of the daemon, and what their coming and going means for it
//! (COMPATIBILITY.md 4.22).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{answer::Place, connection::PersistentConnection};
use crate::streams::PersistentId;

#[derive(Debug, Default)]
struct Table {
    open: HashMap<PersistentId, Arc<PersistentConnection>>,
    /// Whether there ever was one.
    used: bool,
    over: bool,
}

/// Every persistent connection.
#[derive(Debug)]
pub struct Connections {
    table: Mutex<Table>,
    next: AtomicU64,
    stay_alive: bool,
    over: CancellationToken,
}

impl Connections {
    /// None yet. When the last one closes the daemon is to end, unless it is to
    /// `stay_alive`.
    #[must_use]
    pub fn new(stay_alive: bool) -> Self {
        Self {
            table: Mutex::default(),
            next: AtomicU64::new(1),
            stay_alive,
            over: CancellationToken::new(),
        }
    }

    /// Completes when the daemon has nothing to live for.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// The time to open the first connection is up: from now on the daemon is over, unless
    /// there was one.
    pub fn expire(&self) {
        let mut table = self.table.lock();
        if !table.used {
            self.end(&mut table);
        }
    }

    fn end(&self, table: &mut Table) {
        table.over = true;
        self.over.cancel();
    }

    /// Enters a new connection, unless the daemon is over: whoever is entered keeps it
    /// alive.
    pub(super) fn enter(
        &self,
        connection: impl FnOnce(PersistentId) -> PersistentConnection,
    ) -> Option<Arc<PersistentConnection>> {
        let mut table = self.table.lock();
        if table.over {
            return None;
        }
        let id = PersistentId(self.next.fetch_add(1, Ordering::Relaxed));
        let connection = Arc::new(connection(id));
        table.used = true;
        table.open.insert(id, connection.clone());
        Some(connection)
    }

    pub(super) fn leave(&self, id: PersistentId) {
        let mut table = self.table.lock();
        table.open.remove(&id);
        if table.open.is_empty() && !self.stay_alive {
            self.end(&mut table);
        }
    }

    /// A place for one more call at the client behind `id`, if it is there and not busy.
    pub(in crate::control) fn place(&self, id: PersistentId) -> Option<Place> {
        let connection = self.table.lock().open.get(&id)?.clone();
        Place::take(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::Connections;

    #[test]
    fn the_time_for_the_first_connection_ends_an_unused_daemon() {
        let table = Connections::new(true);
        assert!(!table.over.is_cancelled());
        table.expire();
        assert!(table.over.is_cancelled());
    }
}
