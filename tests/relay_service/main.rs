//! The relay service: who may reserve, what circuits pass on, and when they end. Both ends of each
//! circuit are written by hand, on streams of daemons that know nothing of relays.

#[path = "../support/mod.rs"]
mod support;

mod circuits;
mod idle;
mod limits;
mod reservations;
mod shutdown;

use support::Daemon;

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A relay with these flags.
fn relay(flags: &[&str]) -> Daemon {
    Daemon::spawn(&[&[LISTEN], flags].concat())
}
