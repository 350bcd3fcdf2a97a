//! Where a node can be reached, and what it tells of that: AutoNAT, observed addresses, port
//! mapping, zones (COMPATIBILITY.md 4.27). In namespaces, skipped by name where there are none.

#[path = "../support/mod.rs"]
mod support;

mod autonat;
mod identity;
mod observed;
mod port_mapping;
mod segment;
mod zones;

use std::time::Duration;

use support::{Daemon, Launch, lab::Host};

/// The dial of a server takes 15 s to fail.
const VERDICT: Duration = Duration::from_secs(60);

/// A daemon on port 4001 of every address of `host`.
fn on(host: &Host, flags: &[&str]) -> Daemon {
    launch(host, flags).spawn()
}

fn launch(host: &Host, flags: &[&str]) -> Launch {
    host.launch()
        .args(["-hostAddrs=/ip4/0.0.0.0/tcp/4001"])
        .args(flags.iter().copied())
        .env("GOLOG_LOG_LEVEL", "error,autonat=info,nat=debug")
}

fn told(daemon: &Daemon) -> Vec<String> {
    let (_, addresses) = daemon.client().identify();
    addresses.iter().map(ToString::to_string).collect()
}
