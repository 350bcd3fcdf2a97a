//! Threads that put load on a daemon.
//!
//! Blocking threads, not an async runtime: a blocking read is one system call, so the
//! generator takes little of the processors that the daemons are to have.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Stack of a load thread; buffers of a size live on the heap.
pub(crate) const STACK: usize = 256 * 1024;

/// Bytes handed to one read or write when throughput is measured.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Runs `work` once per item, all at the same time.
///
/// # Errors
/// The first error of any thread, after all have ended.
pub(crate) fn parallel<I: Send, T: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads = items
            .into_iter()
            .map(|item| {
                thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || work(item))
            })
            .collect::<Result<Vec<_>, _>>()?;
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => Err(anyhow!("a load thread panicked")),
            })
            .collect()
    })
}

/// How often something was done, and in what time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) count: f64,
    seconds: f64,
}

impl Rate {
    pub(crate) fn per_second(self) -> f64 {
        self.count / self.seconds
    }
}

/// Repeats `work` on `threads` threads for `time`; each thread has its own `start`.
///
/// # Errors
/// The first error of any thread.
pub(crate) fn repeat<S>(
    threads: usize,
    time: Duration,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S) -> Result<()> + Sync,
) -> Result<Rate> {
    let begin = Instant::now();
    let deadline = begin + time;
    let counts = parallel(vec![(); threads], |()| {
        let mut state = start()?;
        let mut count = 0_u32;
        while Instant::now() < deadline {
            work(&mut state)?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(Rate {
        count: counts.into_iter().map(f64::from).sum(),
        seconds: begin.elapsed().as_secs_f64(),
    })
}
