//! Messages from one daemon to the subscribers of others.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;

use super::Setup;
use crate::binary::Side;
use crate::client::{Control, Feed};
use crate::daemon::{Daemon, TCP_NOISE};
use crate::process;
use crate::sample::Outcome;

const TOPIC: &str = "rp2pd-bench";

/// Longest wait for one message in sequence, or between two of a flood.
const QUIET: Duration = Duration::from_secs(2);

/// Time for a mesh to form: some heartbeats.
const SETTLE: Duration = Duration::from_millis(2500);

/// Bytes at the start of a payload: which phase it belongs to, and when it was sent.
const HEADER: usize = 9;

/// How the daemons are connected; the first one publishes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Pair,
    Line(usize),
    Mesh(usize),
}

impl Shape {
    pub(super) fn name(self) -> String {
        match self {
            Self::Pair => "pair".into(),
            Self::Line(count) => format!("line-{count}"),
            Self::Mesh(count) => format!("mesh-{count}"),
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Pair => 2,
            Self::Line(count) | Self::Mesh(count) => count,
        }
    }
}

/// What the subscriber of one daemon saw of a flood.
struct Seen {
    count: u64,
    last: Instant,
    micros: Histogram<u64>,
}

/// Messages of `len` bytes, first one after the other, then as fast as PUBLISH is answered.
pub(super) fn run(setup: &Setup, side: &Side, shape: Shape, len: usize) -> Result<Outcome> {
    let mut flags = side.flags.clone();
    flags.push("-pubsub".into());
    let side = Side {
        name: side.name.clone(),
        path: side.path.clone(),
        flags,
    };
    let daemons: Vec<Daemon> = (0..shape.count())
        .map(|_| Daemon::start(&side, Some(TCP_NOISE)))
        .collect::<Result<_>>()?;
    for (index, daemon) in daemons.iter().enumerate().skip(1) {
        let others = match shape {
            Shape::Pair | Shape::Line(_) => index - 1..index,
            Shape::Mesh(_) => 0..index,
        };
        for other in &daemons[others] {
            daemon.control()?.connect(&other.identify()?)?;
        }
    }
    let clock = Instant::now();
    let (arrived, arrivals) = sync_channel(1024);
    let mut readers = Vec::new();
    for daemon in &daemons[1..] {
        let feed = daemon.control()?.subscribe(TOPIC, QUIET + SETTLE)?;
        readers.push(reader(feed, clock, arrived.clone()));
    }
    drop(arrived);
    sleep(SETTLE);
    let mut publisher = Publisher {
        control: daemons[0].control()?,
        clock,
        data: vec![7; len.max(HEADER)],
    };
    let name = format!("pubsub {}, {len} B", shape.name());
    let mut outcome = Outcome::default();

    // Daemons that do not yet know a subscriber lose the first ones.
    let known = Instant::now();
    while !publisher.in_sequence(&arrivals, readers.len())? {
        ensure!(known.elapsed() < 4 * QUIET, "nothing arrives");
    }
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < setup.time() {
        // What a daemon loses costs it the wait.
        publisher.in_sequence(&arrivals, readers.len())?;
        count += 1;
    }
    let seconds = begin.elapsed().as_secs_f64();
    outcome.high(
        format!("{name}, in sequence"),
        "/s",
        f64::from(count) / seconds,
    );
    outcome.goal(3.0);

    let before = cpu(&daemons)?;
    let begin = Instant::now();
    let mut count = 0_u64;
    while begin.elapsed() < setup.time() {
        publisher.publish(1)?;
        count += 1;
    }
    let memory = memory(&daemons)?;
    let wanted = count * readers.len() as u64;
    let (mut seen, mut last) = (0, begin);
    let mut micros: Histogram<u64> = Histogram::new(3)?;
    for reader in readers {
        let of_one = reader.join().map_err(|_| anyhow!("a reader panicked"))??;
        seen += of_one.count;
        last = last.max(of_one.last);
        micros.add(of_one.micros)?;
    }
    let cpu = cpu(&daemons)? - before;
    let seconds = last.duration_since(begin).as_secs_f64();
    let each = seen as f64 / (daemons.len() - 1) as f64;
    outcome.high(format!("{name}, flood"), "/s", each / seconds);
    outcome.goal(3.0);
    let lost = 100.0 * (1.0 - seen as f64 / wanted as f64);
    outcome.plain(format!("{name}, flood, lost"), "%", lost);
    let p99 = micros.value_at_quantile(0.99) as f64 / 1000.0;
    outcome.low(format!("{name}, flood, p99"), "ms", p99);
    outcome.goal(10.0);
    let each = cpu / seen as f64 * 1e6;
    outcome.low(format!("{name}, flood, CPU"), "us each", each);
    outcome.goal(3.0);
    outcome.low(format!("{name}, flood, largest RSS"), "MiB", memory);
    Ok(outcome)
}

struct Publisher {
    control: Control,
    clock: Instant,
    data: Vec<u8>,
}

impl Publisher {
    fn publish(&mut self, phase: u8) -> Result<()> {
        let sent = u64::try_from(self.clock.elapsed().as_micros())?;
        self.data[0] = phase;
        self.data[1..HEADER].copy_from_slice(&sent.to_be_bytes());
        self.control.publish(TOPIC, &self.data)
    }

    /// Whether a message has reached all `subscribers` before the next may go.
    fn in_sequence(&mut self, arrivals: &Receiver<()>, subscribers: usize) -> Result<bool> {
        self.publish(0)?;
        for _ in 0..subscribers {
            match arrivals.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("a subscriber has ended"),
            }
        }
        Ok(true)
    }
}

/// Reads until nothing comes any more; tells of messages in sequence, counts those of a flood.
fn reader(mut feed: Feed, clock: Instant, arrived: SyncSender<()>) -> JoinHandle<Result<Seen>> {
    thread::spawn(move || {
        let mut seen = Seen {
            count: 0,
            last: clock,
            micros: Histogram::new(3)?,
        };
        while let Some(data) = feed.next()? {
            let sent = data.get(1..HEADER).context("a message of another")?;
            let sent = u64::from_be_bytes(sent.try_into()?);
            if data[0] == 0 {
                arrived.send(())?;
                continue;
            }
            seen.count += 1;
            seen.last = Instant::now();
            let now = u64::try_from(clock.elapsed().as_micros())?;
            seen.micros.record(now.saturating_sub(sent).max(1))?;
        }
        Ok(seen)
    })
}

fn cpu(daemons: &[Daemon]) -> Result<f64> {
    daemons
        .iter()
        .map(|daemon| process::cpu(daemon.pid()))
        .sum()
}

/// Resident memory of the daemon that has most, in MiB.
fn memory(daemons: &[Daemon]) -> Result<f64> {
    let mut most = 0.0_f64;
    for daemon in daemons {
        most = most.max(process::memory(daemon.pid())?.total / 1024.0);
    }
    Ok(most)
}
