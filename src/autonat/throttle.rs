//! How many dials are made for whom.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::fixed_limits::fixed_limit;

/// Time after which everything is counted anew (go-libp2p).
const WINDOW: Duration = Duration::from_secs(60);

/// Dials in a window (SECURITY.md 3; go-libp2p).
pub(super) const MAX_DIALS: usize = 30;
fixed_limit!("AutoNAT: dials for others in a minute", MAX_DIALS);

/// Dials in a window for one peer (SECURITY.md 3; go-libp2p).
pub(super) const MAX_PER_PEER: usize = 3;
fixed_limit!("AutoNAT: dials for one peer in a minute", MAX_PER_PEER);

/// Dials in a window for the peers of one IPv4 address or IPv6 /56 (SECURITY.md 3).
pub(super) const MAX_PER_PREFIX: usize = 10;
fixed_limit!("AutoNAT: dials for one address in a minute", MAX_PER_PREFIX);

/// Counts the dials of a window. Its tables have [`MAX_DIALS`] entries at most.
#[derive(Debug)]
pub(super) struct Throttle {
    begun: Instant,
    all: usize,
    peers: HashMap<PeerId, usize>,
    prefixes: HashMap<IpAddr, usize>,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            all: 0,
            peers: HashMap::new(),
            prefixes: HashMap::new(),
        }
    }

    /// Whether a dial may be made for `peer`, which is then counted.
    pub(super) fn admit(&mut self, peer: PeerId, prefix: IpAddr, now: Instant) -> bool {
        if now.duration_since(self.begun) >= WINDOW {
            *self = Self::new(now);
        }
        if self.all >= MAX_DIALS
            || count(&self.peers, &peer) >= MAX_PER_PEER
            || count(&self.prefixes, &prefix) >= MAX_PER_PREFIX
        {
            return false;
        }
        self.all += 1;
        *self.peers.entry(peer).or_default() += 1;
        *self.prefixes.entry(prefix).or_default() += 1;
        true
    }
}

fn count<K: Eq + Hash>(table: &HashMap<K, usize>, key: &K) -> usize {
    table.get(key).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_requests_are_few_dials() {
        let begun = Instant::now();
        let mut throttle = Throttle::new(begun);
        let one = PeerId::random();
        let prefix = |number: u8| IpAddr::from([60, 0, number, 1]);
        let admitted = (0..1_000_000).filter(|_| throttle.admit(one, prefix(1), begun));
        assert_eq!(admitted.count(), MAX_PER_PEER);
        // Many peers of one address.
        let admitted = (0..1000).filter(|_| throttle.admit(PeerId::random(), prefix(1), begun));
        assert_eq!(admitted.count(), MAX_PER_PREFIX - MAX_PER_PEER);
        // Many peers of many.
        let admitted = (0..1000_u32).filter(|number| {
            let prefix = prefix(u8::try_from(number % 250).unwrap());
            throttle.admit(PeerId::random(), prefix, begun)
        });
        assert_eq!(admitted.count(), MAX_DIALS - MAX_PER_PREFIX);
        assert!(throttle.peers.len() <= MAX_DIALS && throttle.prefixes.len() <= MAX_DIALS);
        assert!(throttle.admit(one, prefix(1), begun + WINDOW));
    }
}
