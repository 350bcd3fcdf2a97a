//! A daemon that has just begun.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Setup;
use crate::binary::Side;
use crate::daemon::{Daemon, USUAL};
use crate::process;
use crate::sample::{Outcome, Summary};

/// Time for a daemon to finish what it does after its first answer.
const SETTLE: Duration = Duration::from_secs(1);

/// Time to the first answer: the median of some starts.
pub(super) fn start(setup: &Setup, side: &Side) -> Result<Outcome> {
    let mut times = Vec::new();
    let mut cpu = Vec::new();
    for _ in 0..setup.pick(3, 7) {
        let begin = Instant::now();
        let daemon = Daemon::start(side, Some(USUAL))?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        cpu.push(process::cpu(daemon.pid())? * 1e3);
    }
    let mut outcome = Outcome::default();
    if let Some(times) = Summary::of(&times) {
        outcome.low("start to IDENTIFY", "ms", times.median);
        outcome.goal(10.0);
    }
    // Too coarse a clock for the median of such short lives.
    let cpu = cpu.iter().sum::<f64>() / cpu.len() as f64;
    outcome.plain("start, CPU", "ms", cpu);
    Ok(outcome)
}

/// Memory of a daemon that does nothing.
pub(super) fn idle_memory(_: &Setup, side: &Side) -> Result<Outcome> {
    let daemon = Daemon::start(side, Some(USUAL))?;
    sleep(SETTLE);
    let memory = process::memory(daemon.pid())?;
    let mut outcome = Outcome::default();
    outcome.low("idle RSS", "MiB", memory.total / 1024.0);
    outcome.goal(5.0);
    outcome.low("idle RSS, anonymous", "MiB", memory.anonymous / 1024.0);
    outcome.plain("idle RSS, file", "MiB", memory.file / 1024.0);
    Ok(outcome)
}
