//! Bytes per second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So long nothing may have moved for the rest to be caught up on.
const BURST: Duration = Duration::from_millis(100);

/// Bytes that move at once, whatever the rate is.
const MAX_CHUNK: u64 = 64 << 10;

/// Whoever wants to move bytes reserves the time that they take, behind all who did so before.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// When the bytes that are reserved next may move.
    ready: Mutex<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            ready: Mutex::new(Instant::now()),
        }
    }

    /// Bytes that may move at once: a tenth of a second's.
    pub(super) fn chunk(&self) -> usize {
        let chunk = (self.rate / 10).clamp(1, MAX_CHUNK);
        usize::try_from(chunk).unwrap_or(usize::MAX)
    }

    /// When so many bytes may move, which others wait for from now on.
    pub(super) fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mut ready = self.ready.lock();
        let at = (*ready).max(earliest);
        *ready = at + self.time(bytes);
        at
    }

    /// So many reserved bytes have not moved.
    pub(super) fn give_back(&self, bytes: usize) {
        let mut ready = self.ready.lock();
        *ready = ready.checked_sub(self.time(bytes)).unwrap_or(*ready);
    }

    fn time(&self, bytes: usize) -> Duration {
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
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
            loop {
                now = now.max(bucket.reserve(bucket.chunk(), now));
                if now >= begun + Duration::from_secs(10) {
                    break;
                }
                // Only half of it is there.
                let half = bucket.chunk() / 2;
                bucket.give_back(bucket.chunk() - half);
                moved += half as u64;
            }
            let fair = 10 * rate;
            assert!(
                (fair - rate / 5..=fair + rate / 2).contains(&moved),
                "{rate}: {moved}"
            );
        }
    }

    #[test]
    fn each_has_its_turn() {
        let (bucket, begun) = (Bucket::new(100_000), Instant::now());
        let turn = bucket.time(bucket.chunk());
        let mut turns = [begun; 8].map(|now| bucket.reserve(bucket.chunk(), now));
        for _ in 0..100 {
            for at in &mut turns {
                let next = bucket.reserve(bucket.chunk(), *at);
                assert_eq!(next, *at + 8 * turn);
                *at = next;
            }
        }
    }
}
