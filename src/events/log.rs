//! The last events, once for all who follow.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Entry, Event,
    kind::{KINDS, Kind, Kinds},
    now,
};

use crate::fixed_limits::fixed_limit;

/// Events kept for those who have not read them yet (SECURITY.md 3).
pub(super) const MAX_EVENTS: usize = 16 * 1024;
fixed_limit!("events kept for clients that follow them", MAX_EVENTS);

/// Bytes of them (SECURITY.md 3).
pub(super) const MAX_BYTES: usize = 8 << 20;
fixed_limit!("memory of events kept for clients", bytes MAX_BYTES);

/// Events of other kinds that are passed over while the lock is held.
const MAX_PASSED: usize = 256;

/// How many events of each kind.
pub(super) type Counts = [u64; KINDS];

/// A place in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The number of the next event.
    next: u64,
    /// How many of each kind there were before it.
    passed: Counts,
}

/// What stands at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// So many events of the wanted kinds are no longer there.
    Missed(u64),
    Entry(Arc<Entry>),
}

#[derive(Debug, Default)]
pub(super) struct Log {
    /// How many follow each kind.
    wanted: [AtomicUsize; KINDS],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The number of the first entry.
    first: u64,
    /// How many of each kind there were before it.
    evicted: Counts,
    /// How many of each kind there were so far.
    total: Counts,
    last_time: u64,
    followers: usize,
    /// Followers that have read everything.
    waiting: HashMap<u64, (Kinds, Waker)>,
    last_follower: u64,
}

impl State {
    fn evict(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            self.bytes -= entry.event.size();
            self.evicted[entry.event.kind() as usize] += 1;
        }
    }
}

impl Log {
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.wanted[kind as usize].load(Relaxed) > 0
    }

    pub(super) fn add(&self, event: Event) {
        let (kind, size) = (event.kind(), event.size());
        let mut woken = Vec::new();
        {
            let mut state = self.state.lock();
            if state.followers == 0 {
                return;
            }
            let time = now().max(state.last_time);
            state.last_time = time;
            state.total[kind as usize] += 1;
            state.bytes += size;
            state.entries.push_back(Arc::new(Entry { event, time }));
            while state.entries.len() > MAX_EVENTS || state.bytes > MAX_BYTES {
                state.evict();
            }
            let due = |_: &u64, (kinds, _): &mut (Kinds, Waker)| kinds.contains(kind);
            woken.extend(state.waiting.extract_if(due).map(|(_, (_, waker))| waker));
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// A number for one who follows from now on, and the place where that begins.
    pub(super) fn join(&self, kinds: Kinds) -> (u64, Place) {
        let mut state = self.state.lock();
        state.followers += 1;
        state.last_follower += 1;
        for number in kinds.numbers() {
            self.wanted[number].fetch_add(1, Relaxed);
        }
        let place = Place {
            next: state.first + state.entries.len() as u64,
            passed: state.total,
        };
        (state.last_follower, place)
    }

    pub(super) fn leave(&self, follower: u64, kinds: Kinds) {
        let mut state = self.state.lock();
        for number in kinds.numbers() {
            self.wanted[number].fetch_sub(1, Relaxed);
        }
        state.waiting.remove(&follower);
        state.followers -= 1;
        if state.followers > 0 {
            return;
        }
        let entries = std::mem::take(&mut state.entries);
        state.first += entries.len() as u64;
        (state.bytes, state.evicted) = (0, state.total);
        // They are freed without the lock, which whoever tells of an event takes.
        drop(state);
        drop(entries);
    }

    /// What stands at `place`, which moves on. If that is nothing yet, `waker` is woken once there
    /// is something.
    pub(super) fn next(
        &self,
        follower: u64,
        kinds: Kinds,
        place: &mut Place,
        waker: Option<&Waker>,
    ) -> Option<Found> {
        loop {
            let mut state = self.state.lock();
            if place.next < state.first {
                let lost = |number: usize| state.evicted[number] - place.passed[number];
                let missed: u64 = kinds.numbers().map(lost).sum();
                (place.next, place.passed) = (state.first, state.evicted);
                if missed > 0 {
                    return Some(Found::Missed(missed));
                }
            }
            let mut passed = 0;
            while passed < MAX_PASSED {
                let at = usize::try_from(place.next - state.first).unwrap_or(usize::MAX);
                let Some(entry) = state.entries.get(at) else {
                    if let Some(waker) = waker {
                        state.waiting.insert(follower, (kinds, waker.clone()));
                    }
                    return None;
                };
                let kind = entry.event.kind();
                place.next += 1;
                place.passed[kind as usize] += 1;
                passed += 1;
                if kinds.contains(kind) {
                    return Some(Found::Entry(entry.clone()));
                }
            }
            // Whoever tells of an event gets the lock in between.
            MutexGuard::unlock_fair(state);
        }
    }

    /// The time of the last event, or now.
    pub(super) fn time(&self) -> u64 {
        let mut state = self.state.lock();
        state.last_time = now().max(state.last_time);
        state.last_time
    }
}
