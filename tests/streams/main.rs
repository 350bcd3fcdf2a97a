//! Bytes between clients of two daemons: complete and in order, or visibly cut; a slow or
//! dead end costs only itself (COMPATIBILITY.md 5; SECURITY.md 3, 5.4).
//!
//! Counts fit a debug build on two cores; the environment raises them to the full promise:
//! `RP2PD_TEST_KILLS` and `RP2PD_TEST_CLIENT_KILLS` (100 each). `RP2PD_TEST_STREAM_CYCLES` (20000),
//! `RP2PD_TEST_HALF_CLOSES` (1000), `RP2PD_TEST_OPEN_STREAMS` (5000) and
//! `RP2PD_TEST_LOADED_STREAMS` (1000) are full by default. `RP2PD_TEST_SEED` repeats a run.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod connections;
mod crowds;
mod faults;
mod half_close;
mod identities;
mod private;
mod secure;
mod silence;
mod slow;
mod transports;

use std::time::Duration;

use support::{Daemon, Handler, PATIENCE, Pipe};

fn node() -> Daemon {
    Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
}

/// Two daemons, the first connected to the second, and a handler of `/s` there.
fn pair() -> (Daemon, Daemon, Handler) {
    pair_with(node)
}

fn pair_with(launch: impl Fn() -> Daemon) -> (Daemon, Daemon, Handler) {
    // The daemons raise their own limit; both ends of every stream are ours.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let (a, b, handler) = (launch(), launch(), Handler::unix());
    handler
        .register(&mut b.client(), &["/s"], None)
        .expect("register");
    a.connect_to(&b);
    (a, b, handler)
}

/// A stream: the opener's end and the handler's.
fn stream(a: &Daemon, b: &Daemon, handler: &Handler) -> (Pipe, Pipe) {
    let (_, near) = a.client().open_stream(b.peer_id(), &["/s"]).expect("open");
    let (_, far) = handler.accept(PATIENCE).expect("the stream");
    for end in [&near, &far] {
        end.socket.set_timeout(PATIENCE).expect("set a timeout");
    }
    (near, far)
}

/// How often, unless the environment says otherwise.
fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Asserts that the daemon is back to `fds` descriptors soon.
fn assert_fds(daemon: &Daemon, fds: usize, what: &str) {
    let back = support::eventually(Duration::from_secs(15), || daemon.fds() <= fds);
    assert!(back, "{what}: {} descriptors, {fds} before", daemon.fds());
}
