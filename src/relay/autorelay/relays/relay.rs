//! A relay that is known.

use std::time::Duration;

use libp2p::Multiaddr;
use rand::Rng as _;
use tokio::time::Instant;

use crate::relay::autorelay::reserve::Allowance;

/// Pause before a relay that is wanted back is asked again. It doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);

/// See [`PAUSE`]. Also after a refusal of a trusted relay.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Where a relay comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The operator named it, at these addresses.
    Trusted(Vec<Multiaddr>),
    Found,
}

/// A place that a relay holds for this node.
#[derive(Debug, Clone)]
pub(in crate::relay::autorelay) struct Held {
    pub(in crate::relay::autorelay) expires: Instant,
    pub(in crate::relay::autorelay) allowance: Allowance,
    pub(super) refresh: Instant,
}

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) source: Source,
    /// When it was first found, and last.
    pub(super) since: Instant,
    pub(super) seen: Instant,
    /// It has held a place: it is wanted back.
    pub(super) proven: bool,
    /// Whether it was asked and has answered or failed.
    pub(super) tried: bool,
    pub(super) failures: u32,
    pub(super) not_before: Instant,
    pub(super) trying: bool,
    pub(super) held: Option<Held>,
}

impl Relay {
    pub(super) fn new(source: Source, now: Instant) -> Self {
        Self {
            source,
            since: now,
            seen: now,
            proven: false,
            tried: false,
            failures: 0,
            not_before: now,
            trying: false,
            held: None,
        }
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.source != Source::Found
    }

    pub(super) fn is_candidate(&self) -> bool {
        !self.is_trusted() && self.held.is_none()
    }

    /// It is asked later, the more often it has failed the later.
    pub(super) fn back_off(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + jittered(pause.min(MAX_PAUSE));
    }
}

/// All who have lost the same relay must not come back in the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.0))
}
