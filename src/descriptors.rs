//! How many files the process may still open.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::fcntl_dupfd_cloexec,
};

/// Descriptors that accepting leaves alone, for the streams of whoever is there already, for
/// dials and files (SECURITY.md 3).
pub const RESERVE: u64 = 64;

/// Descriptors that connections to handlers leave alone.
pub const HANDLER_RESERVE: u64 = 32;

/// The file descriptors of this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Descriptors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    /// Copied to see which number is free.
    probe: Option<OwnedFd>,
}

impl Descriptors {
    /// Those of a process that may have `limit` of them.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let probe = eventfd(0, EventfdFlags::CLOEXEC).ok();
        Self(Arc::new(Inner { limit, probe }))
    }

    /// Whether one more can be taken with `reserve` left, or with half of all, where that is
    /// less. New ones have the lowest free number, so a copy tells how many there are.
    #[must_use]
    pub fn can_spare(&self, reserve: u64) -> bool {
        let Inner { limit, probe } = &*self.0;
        let Some(probe) = probe else {
            return true;
        };
        let Ok(copy) = fcntl_dupfd_cloexec(probe, 0) else {
            return false;
        };
        let number = u64::try_from(copy.as_raw_fd()).unwrap_or(u64::MAX);
        number.saturating_add(reserve.min(limit / 2)) < *limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_begins_below_the_limit() {
        let plenty = Descriptors::new(u64::MAX);
        assert!(plenty.can_spare(RESERVE) && plenty.can_spare(0));
        // This process has some already.
        let few = Descriptors::new(3);
        assert!(!few.can_spare(RESERVE) && !few.can_spare(0));
    }
}
