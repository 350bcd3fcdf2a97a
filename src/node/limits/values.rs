//! The numbers.

use std::time::Duration;

/// Connections with one peer (go-libp2p's number).
pub(crate) const PER_PEER: usize = 8;

/// Memory that a connection may be expected to need, so that small machines take fewer.
pub(crate) const CONNECTION_COST: u64 = 512 * 1024;

/// What one address may do. The numbers are go-libp2p's. An IPv6 /56 is one address, since whoever
/// has one address of it has all, and a /48 may do more by [`AddressLimits::of_site`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// Inbound connections, those still being secured included; 0 is no limit.
    pub connections: usize,
    /// New inbound connections at once; 0 is no limit.
    pub burst: usize,
    /// Time after which an address that has used up its burst may connect once more.
    pub refill: Duration,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connections: 8,
            burst: 16,
            refill: Duration::from_secs(5),
        }
    }
}

impl AddressLimits {
    /// The defaults for private and link-local addresses and for the machine's own. Clusters and
    /// containers meet there, often many peers behind one address.
    #[must_use]
    pub fn local() -> Self {
        Self {
            connections: 256,
            burst: 1024,
            refill: Duration::from_millis(50),
        }
    }

    /// What an IPv6 /48 may do where each /56 may do this: 8 times the connections, 5 times the
    /// burst, 2.5 times the rate, as in go-libp2p.
    pub(super) fn of_site(self) -> Self {
        Self {
            connections: self.connections.saturating_mul(8),
            burst: self.burst.saturating_mul(5),
            // In this order, so that no time is too long.
            refill: self.refill / 5 * 2,
        }
    }
}

/// Connections at most (SECURITY.md 3).
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Inbound connections still being secured.
    pub pending_inbound: usize,
    /// Dials under way.
    pub pending_outbound: usize,
    /// Inbound connections, those still being secured included.
    pub established_inbound: usize,
    /// Connections.
    pub established: usize,
    /// Established connections with one peer.
    pub per_peer: usize,
    /// What one address may do.
    pub per_address: AddressLimits,
    /// What a private address, or one of the machine's own, may do. Loopback may do all.
    pub per_local_address: AddressLimits,
}

impl ConnectionLimits {
    /// The defaults of a process that may open `descriptors` files and use `memory` bytes, if
    /// that is not 0: a quarter of the former, so that pipes and control connections have theirs.
    #[must_use]
    pub fn scaled(descriptors: u64, memory: u64) -> Self {
        let affordable = match memory {
            0 => u64::MAX,
            memory => memory / CONNECTION_COST,
        };
        let share = usize::try_from(affordable.min(descriptors / 4)).unwrap_or(usize::MAX);
        Self {
            pending_inbound: 256,
            pending_outbound: 256,
            established_inbound: share.clamp(16, 2048),
            established: share.clamp(32, 4096),
            per_peer: PER_PEER,
            per_address: AddressLimits::default(),
            per_local_address: AddressLimits::local(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_from_descriptors_and_memory() {
        let scaled = |descriptors, mebibytes: u64| {
            let limits = ConnectionLimits::scaled(descriptors, mebibytes << 20);
            (limits.established_inbound, limits.established)
        };
        assert_eq!(scaled(1 << 20, 0), (2048, 4096));
        assert_eq!(scaled(1 << 20, 64 << 10), (2048, 4096));
        assert_eq!(scaled(1024, 64 << 10), (256, 256));
        assert_eq!(scaled(1 << 20, 128), (256, 256));
        assert_eq!(scaled(10, 1), (16, 32));
    }

    #[test]
    fn a_site_may_do_as_much_as_in_go() {
        let site = AddressLimits::default().of_site();
        assert_eq!((site.connections, site.burst), (64, 80));
        assert_eq!(site.refill, Duration::from_secs(2));
    }
}
