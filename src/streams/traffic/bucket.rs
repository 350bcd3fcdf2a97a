//! Bytes per second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So long nothing may have moved for the rest to be caught up on.
const BURST: Duration = Duration::from_millis(100);

/// Bytes that move at once, whatever the rate is.
const MAX_CHUNK: u64 = 64 << 10;

/// Whoever moves bytes pays for them in time, which others wait for.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// When the next bytes may move.
    ready: Mutex<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            ready: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn ready(&self) -> Instant {
        *self.ready.lock()
    }

    /// Bytes that may move at once: a tenth of a second's.
    pub(super) fn chunk(&self) -> usize {
        let chunk = (self.rate / 10).clamp(1, MAX_CHUNK);
        usize::try_from(chunk).unwrap_or(usize::MAX)
    }

    /// So many bytes have moved.
    pub(super) fn pay(&self, bytes: usize, now: Instant) {
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate.max(1));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut ready = self.ready.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *ready = (*ready).max(earliest) + time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_no_more_moves_than_the_rate() {
        let begun = Instant::now();
        for rate in [1024, 100_000, 10_000_000] {
            let bucket = Bucket::new(rate);
            let (mut now, mut moved) = (begun, 0);
            while now < begun + Duration::from_secs(10) {
                if bucket.ready() <= now {
                    bucket.pay(bucket.chunk(), now);
                    moved += bucket.chunk() as u64;
                } else {
                    now = bucket.ready();
                }
            }
            let fair = 10 * rate;
            assert!(
                (fair - rate / 5..=fair + rate / 2).contains(&moved),
                "{rate}: {moved}"
            );
        }
    }
}
