//! Persistent connections: calls between the clients of two daemons, and when a daemon ends
//! with its client (COMPATIBILITY.md 4.19 to 4.22).
//!
//! Counts fit a debug build on two cores; the environment raises them to the full promise:
//! `RP2PD_TEST_CALLS` (30000), `RP2PD_TEST_CALL_KILLS` (100), `RP2PD_TEST_IDLE_STARTS` (200).
//! `RP2PD_TEST_SEED` repeats a run.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod cancel;
mod faults;
mod handlers;
mod lifetime;
mod load;
mod malformed;
mod upgrade;
mod wire;

use std::time::Duration;

use support::persistent::{Answer, Incoming, Outcome};
use support::{Daemon, PATIENCE, Persistent, eventually};

/// How soon a caller's end is known at the other daemon's client (Hivemind's tests wait as
/// long).
const SOON: Duration = Duration::from_millis(250);

fn node() -> Daemon {
    node_with(&[])
}

fn node_with(flags: &[&str]) -> Daemon {
    Daemon::spawn(&[&["-hostAddrs=/ip4/127.0.0.1/tcp/0"], flags].concat())
}

/// Two daemons, the first connected to the second.
fn pair() -> (Daemon, Daemon) {
    let (a, b) = (node(), node());
    a.connect_to(&b);
    (a, b)
}

fn echo(call: &Incoming) -> Answer {
    Ok(call.data.clone())
}

/// A handler of `name` at `daemon`, not yet serving.
fn handler(daemon: &Daemon, name: &str) -> Persistent {
    let mut handler = daemon.persistent();
    handler.add(name, false).expect("add the handler");
    handler
}

/// How often, unless the environment says otherwise.
fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
