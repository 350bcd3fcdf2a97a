//! How many bytes go through.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::Result;

use super::{PROTO, Setup};
use crate::binary::Side;
use crate::daemon::{Link, Pair};
use crate::handler::Handler;
use crate::load::{CHUNK, parallel};
use crate::process;
use crate::sample::Outcome;

pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// Bytes per stream that open the windows before the clock runs.
pub(super) const WARM_UP: usize = 16 * 1024 * 1024;

/// Bytes one way, from the opener to the target, through `streams` streams at once.
///
/// The warm-up tells how much to send so that the run takes about the time it should.
pub(super) fn run(
    setup: &Setup,
    side: &Side,
    link: Link,
    streams: usize,
    goal: f64,
) -> Result<Outcome> {
    let pair = Pair::connected(side, link)?;
    let handler = Handler::sink(streams)?;
    pair.target.control()?.handle(PROTO, &handler.path())?;
    let open = parallel(vec![(); streams], |()| {
        pair.opener.control()?.stream(&pair.peer, PROTO)
    })?;
    let begin = Instant::now();
    let open = send_all(open, WARM_UP / streams)?;
    let speed = WARM_UP as f64 / begin.elapsed().as_secs_f64();
    let total = speed * setup.time().as_secs_f64();
    let each = (total / streams as f64) as usize;

    let before = (pair.cpu()?, process::cpu(std::process::id())?);
    let begin = Instant::now();
    send_all(open, each)?;
    let seconds = begin.elapsed().as_secs_f64();
    let after = (pair.cpu()?, process::cpu(std::process::id())?);

    let mib = (each * streams) as f64 / MIB;
    let gib = mib / 1024.0;
    let mut outcome = Outcome::default();
    let what = format!(
        "{}, {streams} stream{}",
        link.name,
        if streams == 1 { "" } else { "s" }
    );
    outcome.high(&*what, "MiB/s", mib / seconds);
    outcome.goal(goal);
    outcome.low(format!("{what}, CPU"), "s/GiB", (after.0 - before.0) / gib);
    let own = (after.1 - before.1) / gib;
    outcome.plain(format!("{what}, CPU of the generator"), "s/GiB", own);
    Ok(outcome)
}

fn send_all(streams: Vec<UnixStream>, each: usize) -> Result<Vec<UnixStream>> {
    parallel(streams, |mut stream| {
        send(&mut stream, each)?;
        Ok(stream)
    })
}

/// Announces `amount` bytes, sends them and waits for the acknowledgement.
pub(super) fn send(stream: &mut UnixStream, amount: usize) -> Result<()> {
    let chunk = vec![7; CHUNK];
    stream.write_all(&(amount as u64).to_be_bytes())?;
    let mut left = amount;
    while left > 0 {
        let most = left.min(CHUNK);
        stream.write_all(&chunk[..most])?;
        left -= most;
    }
    stream.read_exact(&mut [0])?;
    Ok(())
}
