//! How fast a daemon answers.

use anyhow::Result;

use super::Setup;
use crate::binary::Side;
use crate::daemon::{Daemon, USUAL};
use crate::load::{Rate, repeat};
use crate::process;
use crate::sample::Outcome;

/// IDENTIFY on `connections` connections at once.
pub(super) fn identify(setup: &Setup, side: &Side, connections: usize) -> Result<Outcome> {
    let what = format!("IDENTIFY, {connections} conn.");
    measure(side, &what, |daemon| {
        repeat(
            connections,
            setup.time(),
            || daemon.control(),
            |control| control.identify().map(drop),
        )
    })
}

/// IDENTIFY, each on a connection of its own.
pub(super) fn identify_new(setup: &Setup, side: &Side) -> Result<Outcome> {
    measure(side, "IDENTIFY, new conn.", |daemon| {
        repeat(1, setup.time(), || Ok(()), |()| daemon.identify().map(drop))
    })
}

fn measure(side: &Side, what: &str, run: impl Fn(&Daemon) -> Result<Rate>) -> Result<Outcome> {
    let daemon = Daemon::start(side, Some(USUAL))?;
    let before = process::cpu(daemon.pid())?;
    let rate = run(&daemon)?;
    let cpu = process::cpu(daemon.pid())? - before;
    let mut outcome = Outcome::default();
    outcome.high(what, "/s", rate.per_second());
    outcome.low(format!("{what}, CPU"), "us each", cpu / rate.count * 1e6);
    Ok(outcome)
}
