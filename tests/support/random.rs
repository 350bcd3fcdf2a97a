//! Randomness that can be repeated: the seed is printed, and taken from the environment.

use std::time::{SystemTime, UNIX_EPOCH};

/// The environment variable that repeats a run.
const SEED: &str = "RP2PD_TEST_SEED";

/// A small generator (xorshift64*), the same on every machine for the same seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded from `RP2PD_TEST_SEED` or the clock; prints the seed, which the test harness
    /// shows if the test fails.
    #[must_use]
    pub fn new(test: &str) -> Self {
        let seed: u64 = std::env::var(SEED)
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.map_or(1, |now| now.subsec_nanos().into())
            });
        println!("{test}: {SEED}={seed}");
        Self::seeded(seed)
    }

    /// With this seed, which is not printed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("fits")
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    /// `bytes` cut at random places into 1 to `most` pieces, none empty.
    #[must_use]
    pub fn cut<'a>(&mut self, bytes: &'a [u8], most: usize) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = (1..most).map(|_| self.below(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2)
            .map(|pair| &bytes[pair[0]..pair[1]])
            .collect()
    }
}
