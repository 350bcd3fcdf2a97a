//! The traffic of the last ten minutes.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::node::Node;

/// Time that one sample covers.
const INTERVAL: Duration = Duration::from_secs(10);

/// Samples kept: ten minutes.
const SAMPLES: usize = 60;

/// Bytes received and sent in each interval, the oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    past: VecDeque<(u64, u64)>,
    /// The sums at the last tick.
    sums: (u64, u64),
}

/// The traffic of the last minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Time that a sample covers.
    pub interval: Duration,
    /// Bytes received and sent in each interval, the oldest first.
    pub samples: Vec<(u64, u64)>,
}

impl History {
    /// Looks at the traffic of `node` until dropped, and calls `each` time.
    pub async fn watch(&self, node: &Node, mut each: impl FnMut() + Send) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.add(node.streams().peers.traffic());
            each();
        }
    }

    fn add(&self, sums: (u64, u64)) {
        let mut samples = self.0.lock();
        let before = std::mem::replace(&mut samples.sums, sums);
        if samples.past.len() == SAMPLES {
            samples.past.pop_front();
        }
        let grown = |now: u64, before: u64| now.saturating_sub(before);
        let grown = (grown(sums.0, before.0), grown(sums.1, before.1));
        samples.past.push_back(grown);
    }

    /// The samples so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic {
            interval: INTERVAL,
            samples: self.0.lock().past.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_differences_and_old_ones_go() {
        let history = History::default();
        for second in 1..=70 {
            history.add((second * 10, second * second));
        }
        let samples = history.traffic().samples;
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!(samples.first(), Some(&(10, 11 * 11 - 10 * 10)));
        assert_eq!(samples.last(), Some(&(10, 70 * 70 - 69 * 69)));
    }
}
