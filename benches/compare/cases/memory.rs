//! What open streams and connections cost.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::streams::exchange;
use super::{PROTO, Setup};
use crate::binary::Side;
use crate::daemon::{CROWD, Daemon, Pair, TCP_NOISE};
use crate::handler::Handler;
use crate::process;
use crate::sample::{Curve, Outcome, Point};

/// Time for memory to come to rest before it is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Memory of both daemons against open streams that have carried one message.
pub(super) fn streams(setup: &Setup, side: &Side) -> Result<Outcome> {
    let pair = Pair::connected(side, TCP_NOISE)?;
    let (handler, _held) = Handler::hold()?;
    pair.target.control()?.handle(PROTO, &handler.path())?;
    let mut open = Vec::new();
    let mut points = Vec::new();
    let steps = setup.pick([0, 500, 1_000].as_slice(), &[0, 1_000, 2_000, 3_000, 5_000]);
    for &count in steps {
        while open.len() < count {
            let mut stream = pair.opener.control()?.stream(&pair.peer, PROTO)?;
            exchange(&mut stream).with_context(|| format!("with {} streams open", open.len()))?;
            open.push(stream);
        }
        sleep(SETTLE);
        points.push(Point {
            x: count as f64,
            y: pair.memory()? / 1024.0,
        });
    }
    let mut outcome = Outcome::default();
    for count in [1_000.0, 5_000.0] {
        per_unit(&mut outcome, "memory per stream", &points, count, 5.0);
    }
    outcome.curves.push(Curve {
        name: "stream-memory",
        x: "open idle streams",
        y: "RSS of both daemons, MiB",
        points,
    });
    Ok(outcome)
}

/// Memory and processor time of one daemon against the number of peers connected to it.
pub(super) fn connections(setup: &Setup, side: &Side) -> Result<Outcome> {
    let target = Daemon::start(side, Some(CROWD))?;
    let peer = target.identify()?;
    let mut dialers = Vec::new();
    let mut points = Vec::new();
    let steps = setup.pick([0, 25, 50].as_slice(), &[0, 50, 100, 200, 300]);
    let (mut idle, mut used) = (0.0, 0.0);
    for &count in steps {
        while dialers.len() < count {
            let dialer = Daemon::start(&setup.dialer, None)?;
            dialer.control()?.connect(&peer)?;
            dialers.push(dialer);
        }
        sleep(SETTLE);
        points.push(Point {
            x: count as f64,
            y: process::memory(target.pid())?.total / 1024.0,
        });
        used = process::cpu(target.pid())?;
        if count == 0 {
            idle = used;
        }
    }
    let mut outcome = Outcome::default();
    let most = points.last().map_or(0.0, |point| point.x);
    per_unit(&mut outcome, "memory per connection", &points, most, 2.0);
    let each = (used - idle) * 1000.0 / most;
    outcome.low(
        format!("processor time per connection, {most} made"),
        "ms",
        each,
    );
    outcome.goal(2.0);
    outcome.curves.push(Curve {
        name: "connection-memory",
        x: "connected peers",
        y: "RSS of the daemon, MiB",
        points,
    });
    Ok(outcome)
}

/// Adds what each of the first `count` things costs, if the curve reaches that far.
fn per_unit(outcome: &mut Outcome, what: &str, points: &[Point], count: f64, goal: f64) {
    let base = points.first();
    let at = points.iter().find(|point| point.x == count);
    if let (Some(base), Some(at)) = (base, at) {
        let each = (at.y - base.y) * 1024.0 / count;
        outcome.low(format!("{what}, {count} open"), "KiB", each);
        outcome.goal(goal);
    }
}
