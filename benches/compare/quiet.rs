//! What other processes take of the machine while daemons are measured.

use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// Share of the processors up to which others do not count.
const QUIET: f64 = 0.1;

/// How long others are watched before they count as quiet.
const WATCH: Duration = Duration::from_millis(500);

/// Watches what others take from the moment it is made.
#[derive(Debug)]
pub(crate) struct Others {
    begin: Instant,
    used: f64,
}

impl Others {
    pub(crate) fn watch() -> Result<Self> {
        Ok(Self {
            begin: Instant::now(),
            used: used()?,
        })
    }

    /// Share of all processors that others have taken since.
    pub(crate) fn share(&self) -> Result<f64> {
        let processors = available_parallelism().map_or(1, usize::from) as f64;
        let seconds = self.begin.elapsed().as_secs_f64();
        let share = (used()? - self.used) / (seconds * processors);
        Ok(share.clamp(0.0, 1.0))
    }
}

/// Waits until others leave the machine alone, at most for `patience`.
pub(crate) fn wait(patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let others = Others::watch()?;
        sleep(WATCH);
        if others.share()? < QUIET {
            break;
        }
    }
    Ok(())
}

/// Processor seconds of everything but this program and its children.
fn used() -> Result<f64> {
    Ok(process::machine_cpu()? - process::own_cpu()?)
}
