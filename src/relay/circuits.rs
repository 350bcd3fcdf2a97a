//! The circuits that run through this relay, and how they are ended from outside.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Instant,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::{fixed_limits::fixed_limit, limit_hits::Limit, metrics::metrics};

/// Memory below which a circuit is not cut, in bytes: it would free too little.
const MIN_CUT: u64 = 64 << 10;
fixed_limit!("relay: memory of circuits that may be cut", bytes MIN_CUT);

/// What one circuit shows to others, and how they end it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    held: AtomicU64,
    moved: AtomicU64,
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl Meter {
    /// So many bytes wait because of the circuit.
    pub(super) fn set_held(&self, bytes: u64) {
        self.held.store(bytes, Relaxed);
    }

    /// So many more bytes have been passed on.
    pub(super) fn add_moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Relaxed);
    }

    /// Whether the circuit is to end. If not, `waker` is woken when it is.
    pub(super) fn is_cut(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.cut.load(Relaxed)
    }

    /// Ends the circuit.
    pub(super) fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.waker.wake();
    }
}

#[derive(Debug, Default)]
struct Running {
    closed: bool,
    last: u64,
    table: HashMap<u64, Arc<Meter>>,
}

/// The circuits that run now, and what has run.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    running: Mutex<Running>,
    begun: AtomicU64,
    /// Bytes that ended circuits have passed on.
    moved: AtomicU64,
}

impl Circuits {
    /// A place for one more circuit, unless all have been closed.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Entry> {
        let mut running = self.running.lock();
        if running.closed {
            return None;
        }
        running.last += 1;
        let (id, meter) = (running.last, Arc::<Meter>::default());
        running.table.insert(id, meter.clone());
        drop(running);
        self.begun.fetch_add(1, Relaxed);
        Some(Entry {
            circuits: self.clone(),
            id,
            begun: Instant::now(),
            meter,
        })
    }

    /// Ends every circuit, and lets no further one begin.
    pub(super) fn close(&self) {
        let mut running = self.running.lock();
        running.closed = true;
        running.table.values().for_each(|meter| meter.cut());
    }

    /// Ends those for which most bytes wait, until `bytes` are freed. How many it were.
    pub(super) fn shed(&self, bytes: u64) -> u64 {
        let running = self.running.lock();
        let holders = running.table.values();
        let holders = holders.map(|meter| (meter.held.load(Relaxed), meter.clone()));
        let mut holders: Vec<_> = holders.filter(|(held, _)| *held >= MIN_CUT).collect();
        drop(running);
        holders.sort_by_key(|(held, _)| Reverse(*held));
        let mut freed: u64 = 0;
        for (held, meter) in holders {
            if freed >= bytes {
                break;
            }
            Limit::RelayCut.hit();
            meter.cut();
            freed = freed.saturating_add(held);
        }
        freed
    }

    /// Circuits that run now.
    pub(super) fn count(&self) -> usize {
        self.running.lock().table.len()
    }

    /// Circuits so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Bytes passed on so far.
    pub(super) fn moved(&self) -> u64 {
        let running = self.running.lock();
        let now = running
            .table
            .values()
            .map(|meter| meter.moved.load(Relaxed));
        now.fold(self.moved.load(Relaxed), u64::saturating_add)
    }
}

/// One circuit, counted until dropped.
#[derive(Debug)]
pub(super) struct Entry {
    circuits: Arc<Circuits>,
    id: u64,
    begun: Instant,
    pub(super) meter: Arc<Meter>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.circuits.running.lock();
        running.table.remove(&self.id);
        // Under the lock, so that no sum counts the bytes twice or not at all.
        let moved = self.meter.moved.load(Relaxed);
        self.circuits.moved.fetch_add(moved, Relaxed);
        drop(running);
        metrics().relay.ended(self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuits(held: &[u64]) -> (Arc<Circuits>, Vec<Entry>) {
        let circuits = Arc::<Circuits>::default();
        let entries = held.iter().map(|held| {
            let entry = circuits.enter().expect("a place");
            entry.meter.set_held(*held);
            entry
        });
        let entries = entries.collect();
        (circuits, entries)
    }

    fn cut(entries: &[Entry]) -> Vec<bool> {
        let waker = Waker::noop();
        let cut = entries.iter().map(|entry| entry.meter.is_cut(waker));
        cut.collect()
    }

    #[test]
    fn those_that_hold_most_are_cut_and_idle_ones_are_not() {
        let (circuits, entries) = circuits(&[0, 300 << 10, 100 << 10, 200 << 10, 10 << 10]);
        assert_eq!(circuits.shed(0), 0);
        assert_eq!(circuits.shed(400 << 10), 500 << 10);
        assert_eq!(cut(&entries), [false, true, false, true, false]);
        let (circuits, entries) = self::circuits(&[0, 1, 300 << 10]);
        assert_eq!(circuits.shed(u64::MAX), 300 << 10);
        assert_eq!(cut(&entries), [false, false, true]);
    }

    #[test]
    fn when_all_are_closed_none_begins() {
        let (circuits, entries) = circuits(&[0, 1 << 20]);
        circuits.close();
        assert_eq!(cut(&entries), [true, true]);
        assert!(circuits.enter().is_none());
    }

    #[test]
    fn what_has_run_is_counted() {
        let (circuits, mut entries) = circuits(&[0, 0, 0]);
        for (entry, moved) in entries.iter().zip([1, 20, 300]) {
            entry.meter.add_moved(moved);
        }
        entries.truncate(1);
        assert_eq!(circuits.count(), 1);
        assert_eq!(circuits.begun(), 3);
        assert_eq!(circuits.moved(), 321);
    }
}
