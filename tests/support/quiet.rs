//! That a daemon is as it was before.

use std::time::{Duration, Instant};

use super::{Daemon, PATIENCE, eventually};

/// How much more memory the daemon may have afterwards, in KiB: little where its allocator gives
/// back what is free. The threads that do so sleep while an arena has less than 4 MiB for them,
/// and each worker has an arena.
fn kept() -> u64 {
    if cfg!(all(
        target_os = "linux",
        target_env = "gnu",
        target_arch = "x86_64"
    )) {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        8192 + 4096 * workers as u64
    } else {
        320 << 10
    }
}

/// What the daemon holds in a quiet moment.
#[derive(Debug)]
pub struct Quiet {
    pub fds: usize,
    pub rss_kib: u64,
}

impl Quiet {
    #[must_use]
    pub fn of(daemon: &Daemon) -> Self {
        // The first requests of a daemon cost it what it keeps for all later ones.
        for _ in 0..50 {
            let _ = daemon.client().identify();
        }
        let mut fds = daemon.fds();
        let _ = eventually(Duration::from_secs(2), || {
            let before = std::mem::replace(&mut fds, daemon.fds());
            before == fds
        });
        Self {
            fds,
            rss_kib: daemon.rss_kib(),
        }
    }

    /// A normal client is served, and soon all is as before.
    pub fn assert_again(&self, daemon: &Daemon, after: &str) {
        assert_quick(daemon, after);
        assert!(
            eventually(PATIENCE, || daemon.fds() <= self.fds),
            "{after}: {} descriptors, {} before",
            daemon.fds(),
            self.fds
        );
        let grown = || daemon.rss_kib().saturating_sub(self.rss_kib);
        assert!(
            eventually(PATIENCE, || grown() <= kept()),
            "{after}: RSS grew by {} KiB",
            grown()
        );
    }
}

/// A normal client gets its answer at once.
pub fn assert_quick(daemon: &Daemon, during: &str) {
    let started = Instant::now();
    let _ = daemon.client().identify();
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(1),
        "{during}: IDENTIFY took {took:?}"
    );
}
