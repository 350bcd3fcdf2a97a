//! Whatever a client does, the daemon answers the next one quickly and keeps nothing
//! (SECURITY.md 3, 3, 6).

#[path = "../support/mod.rs"]
mod support;

mod frames;
mod handler_addresses;
mod masses;
mod memory;

use std::time::{Duration, Instant};

use support::quiet::{Quiet, assert_quick};
use support::{Daemon, eventually};
