//! Who holds how much of a shared store, and who has to give way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use libp2p::PeerId;

/// Who an entry is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Holder {
    /// A client of this daemon.
    Own,
    /// A peer that was met at an address of this prefix. `None` where that is not known, such as
    /// after a restart.
    Peer {
        prefix: Option<IpAddr>,
        peer: Option<PeerId>,
    },
}

impl Holder {
    /// Entries whose origin is not known.
    pub(in super::super) const UNKNOWN: Self = Self::Peer {
        prefix: None,
        peer: None,
    };
}

/// Bytes by holder, with the largest at hand.
#[derive(Debug)]
struct Sizes<T> {
    bytes: BTreeMap<T, usize>,
    order: BTreeSet<(usize, T)>,
}

impl<T> Default for Sizes<T> {
    fn default() -> Self {
        Self {
            bytes: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<T: Ord + Copy> Sizes<T> {
    /// Changes the bytes of `holder`, which is forgotten at 0.
    fn change(&mut self, holder: T, change: impl FnOnce(usize) -> usize) {
        let before = self.bytes.remove(&holder).unwrap_or(0);
        self.order.remove(&(before, holder));
        let after = change(before);
        if after > 0 {
            self.bytes.insert(holder, after);
            self.order.insert((after, holder));
        }
    }

    fn largest(&self) -> Option<T> {
        self.order.last().map(|(_, holder)| *holder)
    }
}

/// What peers hold, by address prefix and within that by peer.
#[derive(Debug, Default)]
pub(super) struct Shares {
    prefixes: Sizes<Option<IpAddr>>,
    peers: BTreeMap<Option<IpAddr>, Sizes<Option<PeerId>>>,
}

impl Shares {
    pub(super) fn add(&mut self, holder: &Holder, bytes: usize) {
        self.change(holder, |before| before.saturating_add(bytes));
    }

    pub(super) fn remove(&mut self, holder: &Holder, bytes: usize) {
        self.change(holder, |before| before.saturating_sub(bytes));
    }

    fn change(&mut self, holder: &Holder, change: impl Fn(usize) -> usize) {
        // Clients of this daemon give way to nobody.
        let Holder::Peer { prefix, peer } = *holder else {
            return;
        };
        self.prefixes.change(prefix, &change);
        let peers = self.peers.entry(prefix).or_default();
        peers.change(peer, change);
        if peers.bytes.is_empty() {
            self.peers.remove(&prefix);
        }
    }

    /// Who gives way when the store is full: of the prefix that holds most, the peer that holds
    /// most. So nobody can displace those who hold less than itself.
    pub(super) fn largest(&self) -> Option<Holder> {
        let prefix = self.prefixes.largest()?;
        let peer = self.peers.get(&prefix)?.largest()?;
        Some(Holder::Peer { prefix, peer })
    }
}
