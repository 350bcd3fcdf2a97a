//! How long the task that owns the swarm keeps its worker each time: the first sign that something
//! in it takes too long.

use std::{
    future::poll_fn,
    pin::pin,
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;

use super::Histogram;

/// Upper ends of the buckets, in microseconds.
const BOUNDS: &[u64] = &[
    10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// Turns of the driver.
#[derive(Debug)]
pub(crate) struct Turns(Histogram);

impl Turns {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let turns = Histogram::of_micros(BOUNDS);
        registry.sub_registry_with_prefix("rp2pd").register(
            "driver_turn_seconds",
            "Time for which the task that owns the swarm has kept its worker",
            turns.clone(),
        );
        Self(turns)
    }

    /// Runs `task`, and counts each of its turns.
    pub(crate) async fn count<F: Future>(&self, task: F) -> F::Output {
        let mut task = pin!(task);
        poll_fn(|cx| {
            let begun = Instant::now();
            let polled = task.as_mut().poll(cx);
            self.0.observe(micros(begun.elapsed()));
            polled
        })
        .await
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
