//! How fast two daemons connect.

use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::Setup;
use crate::binary::Side;
use crate::daemon::{Link, Pair};
use crate::sample::Outcome;

/// Time of CONNECT, answered once identify is through, over fresh connections.
pub(super) fn latency(setup: &Setup, side: &Side, link: Link) -> Result<Outcome> {
    let pair = Pair::start(side, link)?;
    let mut control = pair.opener.control()?;
    let mut times = Histogram::<u64>::new(3)?;
    let rounds = setup.pick(100, 400);
    let before = pair.cpu()?;
    for _ in 0..rounds {
        let begin = Instant::now();
        control.connect(&pair.peer)?;
        times.record(u64::try_from(begin.elapsed().as_micros())?)?;
        control.disconnect(&pair.peer)?;
    }
    let cpu = pair.cpu()? - before;
    let mut outcome = Outcome::default();
    let what = format!("CONNECT {}", link.name);
    for (name, quantile, goal) in [("p50", 0.5, 1.0), ("p99", 0.99, 5.0)] {
        let value = times.value_at_quantile(quantile) as f64 / 1e3;
        outcome.low(format!("{what}, {name}"), "ms", value);
        outcome.goal(goal);
    }
    let each = cpu / f64::from(rounds) * 1e3;
    outcome.low(format!("{what}, CPU"), "ms each", each);
    Ok(outcome)
}
