//! Many short streams, and one long.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{PROTO, Setup};
use crate::binary::Side;
use crate::daemon::{Pair, TCP_NOISE};
use crate::handler::{Handler, MESSAGE};
use crate::load::{parallel, repeat};
use crate::sample::Outcome;

/// Threads of the echo beyond the streams at once: closed streams end a little later.
const SPARE: usize = 16;

/// Streams opened, used and closed per second, `at_once` at a time.
pub(super) fn rate(setup: &Setup, side: &Side, at_once: usize) -> Result<Outcome> {
    let (pair, _handler) = echoing(side, at_once)?;
    cycle(&pair)?;
    let before = pair.cpu()?;
    let rate = repeat(at_once, setup.time(), || Ok(()), |()| cycle(&pair))?;
    let cpu = pair.cpu()? - before;
    let mut outcome = Outcome::default();
    let what = format!("stream open+echo+close, {at_once} at once");
    outcome.high(&*what, "/s", rate.per_second());
    outcome.goal(3.0);
    outcome.low(format!("{what}, CPU"), "us each", cpu / rate.count * 1e6);
    outcome.goal(3.0);
    Ok(outcome)
}

/// Time for 64 bytes there and back on an open stream.
pub(super) fn round_trip(setup: &Setup, side: &Side) -> Result<Outcome> {
    let (pair, _handler) = echoing(side, 1)?;
    let mut stream = pair.opener.control()?.stream(&pair.peer, PROTO)?;
    for _ in 0..100 {
        exchange(&mut stream)?;
    }
    let mut times = Histogram::<u64>::new(3)?;
    let deadline = Instant::now() + setup.time();
    let before = pair.cpu()?;
    loop {
        let begin = Instant::now();
        if begin > deadline {
            break;
        }
        exchange(&mut stream)?;
        times.record(u64::try_from(begin.elapsed().as_nanos())?)?;
    }
    let cpu = pair.cpu()? - before;
    let mut outcome = Outcome::default();
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let value = times.value_at_quantile(quantile) as f64 / 1e3;
        outcome.low(format!("64 B round trip, {name}"), "us", value);
    }
    let each = cpu / times.len() as f64 * 1e6;
    outcome.low("64 B round trip, CPU", "us each", each);
    Ok(outcome)
}

/// What many streams leave behind once they are closed.
pub(super) fn churn(setup: &Setup, side: &Side) -> Result<Outcome> {
    const AT_ONCE: usize = 16;
    let (pair, _handler) = echoing(side, AT_ONCE)?;
    let run = |streams: usize| -> Result<(f64, usize)> {
        parallel(vec![(); AT_ONCE], |()| {
            (0..streams / AT_ONCE).try_for_each(|_| cycle(&pair))
        })?;
        let files = settled(&pair)?;
        Ok((pair.memory()?, files))
    };
    // The first streams fill caches and pools, which is no leak.
    let (memory, files) = run(setup.pick(1_000, 4_000))?;
    let (memory_after, files_after) = run(setup.pick(4_000, 20_000))?;
    let mut outcome = Outcome::default();
    let files = files_after as f64 - files as f64;
    outcome.plain("churn, RSS growth", "KiB", memory_after - memory);
    outcome.plain("churn, open files growth", "files", files);
    outcome.low("churn, RSS after", "MiB", memory_after / 1024.0);
    Ok(outcome)
}

/// Number of open files once it has stopped falling.
fn settled(pair: &Pair) -> Result<usize> {
    let mut files = pair.open_files()?;
    loop {
        sleep(Duration::from_millis(300));
        let now = pair.open_files()?;
        if now >= files {
            return Ok(now);
        }
        files = now;
    }
}

fn echoing(side: &Side, at_once: usize) -> Result<(Pair, Handler)> {
    let pair = Pair::connected(side, TCP_NOISE)?;
    let handler = Handler::echo(at_once + SPARE)?;
    pair.target.control()?.handle(PROTO, &handler.path())?;
    Ok((pair, handler))
}

fn cycle(pair: &Pair) -> Result<()> {
    exchange(&mut pair.opener.control()?.stream(&pair.peer, PROTO)?)
}

/// Sends one message and awaits its echo.
pub(super) fn exchange(stream: &mut UnixStream) -> Result<()> {
    let mut message = [7; MESSAGE];
    stream.write_all(&message)?;
    stream.read_exact(&mut message)?;
    Ok(())
}
