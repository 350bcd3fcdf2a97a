//! Calls from one daemon's client to the other's.

use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::Setup;
use crate::binary::Side;
use crate::calls::{Echo, Persistent};
use crate::daemon::{Pair, TCP_NOISE};
use crate::sample::Outcome;

/// A name as Hivemind has them.
const NAME: &str = "Benchmark.rpc_echo";

/// Calls before the clock runs.
const WARM_UP: usize = 500;

/// One measurement of calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    pub(super) name: &'static str,
    pub(super) size: usize,
    pub(super) at_once: usize,
    /// How many times more of them per second rp2pd is meant to make.
    pub(super) goal: f64,
}

/// Calls echoed per second, their times, and the processor time of one.
pub(super) fn run(setup: &Setup, side: &Side, calls: Calls) -> Result<Outcome> {
    let pair = Pair::connected(side, TCP_NOISE)?;
    let _echo = Echo::serve(pair.target.control()?, NAME)?;
    let mut caller = Persistent::open(pair.opener.control()?)?;
    let data = Bytes::from(vec![7; calls.size]);
    let mut load = |until: &dyn Fn(usize) -> bool| -> Result<Histogram<u64>> {
        let mut times = Histogram::new(3)?;
        let mut begun = vec![Instant::now(); calls.at_once];
        for slot in 0..calls.at_once {
            caller.begin(slot, &pair.peer, NAME, &data);
        }
        caller.flush()?;
        let (mut open, mut done) = (calls.at_once, 0);
        while open > 0 {
            for slot in caller.answered(&data)? {
                let started = begun.get_mut(slot).context("an unknown call")?;
                let now = Instant::now();
                times.record(u64::try_from((now - *started).as_nanos())?)?;
                *started = now;
                done += 1;
                if until(done) {
                    open -= 1;
                } else {
                    caller.begin(slot, &pair.peer, NAME, &data);
                }
            }
            caller.flush()?;
        }
        Ok(times)
    };
    load(&|done| done >= WARM_UP)?;
    let before = pair.cpu()?;
    let begin = Instant::now();
    let deadline = begin + setup.time();
    let times = load(&|_| Instant::now() >= deadline)?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = pair.cpu()? - before;
    let count = times.len() as f64;
    let what = format!("call of {}, {} at once", calls.name, calls.at_once);
    let mut outcome = Outcome::default();
    outcome.high(&*what, "/s", count / seconds);
    outcome.goal(calls.goal);
    let p99 = times.value_at_quantile(0.99) as f64 / 1e3;
    outcome.low(format!("{what}, p99"), "us", p99);
    outcome.goal(3.0);
    outcome.low(format!("{what}, CPU"), "us each", cpu / count * 1e6);
    outcome.goal(3.0);
    Ok(outcome)
}
