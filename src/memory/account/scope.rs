//! Bytes that are reserved, and how many may be.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::fixed_limits::fixed_limit;

/// The part of the memory budget that all charges of peers together may take (SECURITY.md 3).
pub(crate) const ALL_SHARE: u64 = 4;

/// The part of that which the peers of one address prefix may take (SECURITY.md 3).
pub(crate) const PREFIX_SHARE: u64 = 2;

/// The part of that which one peer may take (SECURITY.md 3).
pub(crate) const HOLDER_SHARE: u64 = 4;

/// The part of the memory budget that all charges of clients together may take (SECURITY.md 3).
pub(crate) const CLIENTS_SHARE: u64 = 8;

/// Of the frames of the largest size, as many have room in the share of clients (SECURITY.md 3).
pub(crate) const CLIENTS_FRAMES: u64 = 4;

/// The first bytes of each client, which have room whatever others hold (SECURITY.md 3). There are
/// as many clients as `control/listener` accepts.
pub(crate) const CLIENT_FLOOR: u64 = 2048;
fixed_limit!("memory of each client beside its share", bytes CLIENT_FLOOR);

/// Assumed where no memory budget is known, in bytes.
const ASSUMED_BUDGET: u64 = 1 << 30;

/// There is no room for the charge. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("memory limit reached")]
pub struct OverBudget;

/// Bytes that are reserved, and how many may be.
#[derive(Debug)]
pub(super) struct Scope {
    used: AtomicU64,
    pub(super) limit: u64,
}

impl Scope {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit,
        }
    }

    pub(super) fn reserve(&self, bytes: u64) -> Result<(), OverBudget> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let reserved = self.used.fetch_update(Relaxed, Relaxed, fits);
        reserved.map(drop).map_err(|_| OverBudget)
    }

    pub(super) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}

/// Bytes that charges may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Of all peers together.
    pub all: u64,
    /// Of the peers of one IPv4 address or IPv6 /56.
    pub prefix: u64,
    /// Of one peer.
    pub holder: u64,
    /// Of all clients together, beside the first bytes of each.
    pub clients: u64,
    /// Of one client.
    pub client: u64,
}

impl Shares {
    /// The shares of a process that may use `budget` bytes, in which clients may send frames of
    /// `max_frame` bytes: some of those have room whatever the budget is. A budget of 0 stands for
    /// an unknown one.
    #[must_use]
    pub fn of(budget: u64, max_frame: usize) -> Self {
        let budget = if budget == 0 { ASSUMED_BUDGET } else { budget };
        let frames = u64::try_from(max_frame).unwrap_or(u64::MAX);
        let all = budget / ALL_SHARE;
        let clients = (budget / CLIENTS_SHARE).max(frames.saturating_mul(CLIENTS_FRAMES));
        Self {
            all,
            prefix: all / PREFIX_SHARE,
            holder: all / HOLDER_SHARE,
            clients,
            // One client alone does not use up the share of all.
            client: clients / 4 * 3,
        }
    }
}
