//! What every integration test needs: a daemon process, a control client, a handler.
//!
//! Each test binary uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub)]

pub mod address;
pub mod by_hand;
pub mod certificate;
pub mod cgroup;
pub mod control;
pub mod crowd;
pub mod daemon;
pub mod dht;
pub mod dns;
pub mod handler;
pub mod kad;
pub mod lab;
pub mod metrics;
pub mod namespace;
pub mod output;
pub mod persistent;
pub mod process;
pub mod pubsub;
pub mod punch;
pub mod quiet;
pub mod random;
pub mod raw;
pub mod relay;
pub mod rpc;
pub mod secured;
pub mod socket;

use std::time::{Duration, Instant};

pub use address::Control;
pub use control::{ControlClient, Pipe};
pub use daemon::{Daemon, Launch};
pub use handler::Handler;
pub use persistent::Persistent;
pub use random::Random;
pub use socket::Socket;

/// How long a step may take on a busy two-core machine before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `condition` until it holds; false if it does not within `timeout`.
#[must_use]
pub fn eventually(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// `len` bytes that no transport compresses or repeats by accident; the same for the same `seed`.
#[must_use]
pub fn payload(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
