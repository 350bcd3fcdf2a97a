//! Bytes received from peers since the ladder looked: many of them are a reason to look again.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread::{Thread, current},
};

use parking_lot::Mutex;

use super::throttle::set_throttled;

/// Bytes since the last look.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// From so many on, the ladder is woken. Nobody is to be woken at the largest value.
static ALARM: AtomicU64 = AtomicU64::new(u64::MAX);

/// From so many on, peers are held up until the ladder has looked: it may have to wait for a
/// processor.
static HOLD: AtomicU64 = AtomicU64::new(u64::MAX);

/// Who is woken.
static LADDER: Mutex<Option<Thread>> = Mutex::new(None);

/// Bytes that a thread counts by itself before all others learn of them: what every thread writes
/// at each read costs more than the count is worth. So many of each worker may be missing in
/// [`RECEIVED`], which is far less than the smallest number that is looked for there.
const BATCH: u64 = 4096;

thread_local! {
    /// Bytes that are not in [`RECEIVED`] yet.
    static UNTOLD: Cell<u64> = const { Cell::new(0) };
}

/// So many more bytes have come or were reserved.
pub(crate) fn received(bytes: usize) {
    reserved(u64::try_from(bytes).unwrap_or(u64::MAX));
}

/// See [`received`].
pub(super) fn reserved(bytes: u64) {
    let untold = UNTOLD.get().saturating_add(bytes);
    if untold < BATCH {
        UNTOLD.set(untold);
        return;
    }
    UNTOLD.set(0);
    tell(untold);
}

fn tell(bytes: u64) {
    let sum = RECEIVED.fetch_add(bytes, Relaxed).saturating_add(bytes);
    if sum >= ALARM.load(Relaxed) && ALARM.swap(u64::MAX, Relaxed) != u64::MAX {
        wake();
    }
    if sum >= HOLD.load(Relaxed) {
        set_throttled(true);
    }
}

/// Has the ladder look, 4 ms after its last look at the earliest.
pub(super) fn wake() {
    if let Some(ladder) = &*LADDER.lock() {
        ladder.unpark();
    }
}

/// This thread is the ladder's.
pub(super) fn wakes_this_thread() {
    *LADDER.lock() = Some(current());
}

/// The ladder has ended. Nobody is held up or woken any more.
pub(super) fn wakes_nobody() {
    looked(u64::MAX, u64::MAX);
    set_throttled(false);
    *LADDER.lock() = None;
}

/// The ladder looks now. It is woken after `alarm` further bytes; after `hold`, peers are held up. So
/// many bytes have come since it last looked.
pub(super) fn looked(alarm: u64, hold: u64) -> u64 {
    HOLD.store(hold, Relaxed);
    let came = RECEIVED.swap(0, Relaxed);
    ALARM.store(alarm, Relaxed);
    came
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_bytes_ring_once() {
        // No other test of this program has a ladder.
        let rings = || ALARM.load(Relaxed) == u64::MAX;
        wakes_this_thread();
        looked(1 << 40, u64::MAX);
        // Other tests reserve and receive something as well.
        received(1 << 39);
        assert!(!rings());
        received(1 << 39);
        assert!(rings());
        std::thread::park();
        looked(1 << 40, u64::MAX);
        received(1 << 30);
        assert!(!rings(), "counted anew");
        received(1);
        assert_eq!(UNTOLD.get(), 1, "not worth telling");
        looked(u64::MAX, u64::MAX);
        *LADDER.lock() = None;
    }
}
