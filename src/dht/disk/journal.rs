//! Changes that wait to be written, and the thread that writes them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use super::{changes::Changes, tables::Tables};
use crate::telemetry::Chain;

/// Longest time that a change waits to be written with others.
const DELAY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) changes: Changes,
    /// Changes so far.
    pub(super) count: u64,
    /// When the first of those that wait came.
    since: Option<Instant>,
    /// Somebody waits for them.
    pub(super) urgent: bool,
    pub(super) stopping: bool,
    /// The disk is lost: nothing is written any more.
    pub(super) failed: bool,
    /// Changes that were not written for want of room.
    pub(super) missed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Condvar,
    /// How many changes are on disk.
    pub(super) written: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn enter(
        &self,
        mut state: MutexGuard<'_, State>,
        bytes: usize,
        apply: impl FnOnce(&mut Changes),
    ) {
        apply(&mut state.changes);
        state.changes.bytes += bytes;
        state.count += 1;
        let first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    /// Waits for changes that are to be written now; `None` at the end. With them comes how
    /// many changes there have been with them.
    fn next(&self) -> Option<(Changes, u64)> {
        let mut state = self.state();
        loop {
            let waited = state.since.map(|since| since.elapsed());
            match waited {
                None if state.stopping => return None,
                Some(waited) if state.stopping || state.urgent || waited >= DELAY => {
                    state.since = None;
                    state.urgent = false;
                    return Some((std::mem::take(&mut state.changes), state.count));
                }
                Some(waited) => {
                    let timeout = DELAY.saturating_sub(waited);
                    self.changed.wait_for(&mut state, timeout);
                }
                None => {
                    state.urgent = false;
                    self.changed.wait(&mut state);
                }
            }
        }
    }
}

/// However the writer ends, nobody waits for it any longer.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.failed = true;
        let lost = std::mem::take(&mut state.changes);
        drop(state);
        drop(lost);
        self.0.written.send_replace(u64::MAX);
    }
}

/// The writer's thread.
pub(super) fn write(shared: &Shared, mut tables: Tables, path: &Path) {
    let _ending = Ending(shared);
    while let Some((changes, count)) = shared.next() {
        match tables.apply(changes) {
            Ok(missed) => {
                shared.state().missed += missed;
                shared.written.send_replace(count);
            }
            Err(error) => {
                let error = Chain(&error);
                tracing::error!(
                    path = %path.display(),
                    %error,
                    "datastore lost: going on in memory, a restart will not know what comes now"
                );
                return;
            }
        }
    }
}
