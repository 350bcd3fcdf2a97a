//! Addresses, protocols and keys of peers, with Go's lifetimes and our bounds.

use crate::fixed_limits::fixed_limit;

mod known;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::PublicKey};
use parking_lot::{Mutex, MutexGuard};

use super::dial::{Candidate, Origin};
use known::{Entry, Known};

/// Lifetime of addresses a client named (go-libp2p's temporary addresses).
pub(super) const TEMPORARY: Duration = Duration::from_secs(2 * 60);
/// Lifetime after the last connection closed (go-libp2p's recently connected).
pub(super) const RECENTLY_CONNECTED: Duration = Duration::from_secs(15 * 60);
/// Lifetime of what identify told while the peer is connected.
pub(super) const CONNECTED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Peers remembered, so that strangers cannot fill the memory (as in CVE-2023-40583). Of those
/// that are not connected and were met at the address prefix that holds most, the one that would
/// expire first goes.
pub(crate) const MAX_PEERS: usize = 4096;
fixed_limit!("peers in the address book", MAX_PEERS);
/// Bytes of all that is remembered, by the same rule (SECURITY.md 3).
pub(crate) const MAX_BYTES: usize = 32 << 20;
fixed_limit!("address book at most", bytes MAX_BYTES);
/// The part of the memory that this may be, where that is less.
const SHARE: u64 = 16;
/// Failed dials in a row after which an address is forgotten that has never led to its peer. One
/// that has is kept for its lifetime: its peer may come back.
const MAX_FAILURES: u8 = 3;
fixed_limit!("failed dials in a row of an unproven address", MAX_FAILURES);

/// What became of an address that could not be dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Forgotten,
}

/// What is known of a peer beside its addresses.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) connected: bool,
    pub(super) protocols: Arc<[String]>,
}

/// An address of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAddress {
    /// The address.
    pub address: Multiaddr,
    /// Since it was last told, or led to the peer.
    pub age: Duration,
    /// Until it is forgotten; `None` while the peer is connected.
    pub expires: Option<Duration>,
    /// Whether it has led to the peer.
    pub proven: bool,
}

/// What is known, and how much memory it takes.
#[derive(Debug, Default)]
struct Peers {
    known: HashMap<PeerId, Known>,
    bytes: usize,
}

impl Peers {
    /// Changes what is known of `peer`, if anything is; what is worth nothing then is forgotten.
    fn change<T>(&mut self, peer: &PeerId, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let known = self.known.get_mut(peer)?;
        let result = change(known);
        let cost = known.cost();
        let before = std::mem::replace(&mut known.bytes, cost);
        self.bytes = (self.bytes + known.bytes).saturating_sub(before);
        if known.is_worthless(Instant::now()) {
            self.remove(peer);
        }
        Some(result)
    }

    /// As [`Peers::change`], of a peer that need not be known yet.
    fn change_or_add(&mut self, peer: PeerId, change: impl FnOnce(&mut Known)) {
        self.known.entry(peer).or_default();
        self.change(&peer, change);
    }

    fn remove(&mut self, peer: &PeerId) {
        if let Some(known) = self.known.remove(peer) {
            self.bytes = self.bytes.saturating_sub(known.bytes);
        }
    }

    /// Forgets peers if there are more than may be, or they take more. Connected ones stay. Whoever
    /// comes from one address prefix with many ids displaces its own first.
    fn fit(&mut self, max_bytes: usize) {
        if self.known.len() <= MAX_PEERS && self.bytes <= max_bytes {
            return;
        }
        // All are looked at for it, so some room is made at once.
        let enough = |peers: &Self| {
            peers.known.len() <= MAX_PEERS - MAX_PEERS / 16
                && peers.bytes <= max_bytes - max_bytes / 16
        };
        while !enough(self) {
            let Some(mut held) = self.largest() else {
                return;
            };
            held.sort_unstable();
            // Then another prefix may hold most.
            let half = held.len().div_ceil(2);
            for (_, peer) in held.into_iter().take(half) {
                if enough(self) {
                    return;
                }
                self.remove(&peer);
            }
        }
    }

    /// The peers that are not connected of the address prefix of which most is held.
    fn largest(&self) -> Option<Vec<(Option<Instant>, PeerId)>> {
        let mut prefixes: HashMap<Option<IpAddr>, (usize, Vec<_>)> = HashMap::new();
        for (peer, known) in self.known.iter().filter(|(_, known)| !known.connected) {
            let held = prefixes.entry(known.prefix).or_default();
            held.0 += known.bytes;
            held.1.push((known.expiry(), *peer));
        }
        let most = prefixes.into_values().max_by_key(|(bytes, _)| *bytes);
        most.map(|(_, peers)| peers)
    }
}

/// Known addresses, protocols and keys of peers.
#[derive(Debug)]
pub(super) struct AddressBook {
    peers: Mutex<Peers>,
    max_bytes: usize,
}

impl AddressBook {
    /// An empty one, for a process that may use so many bytes of memory; 0 stands for an unknown
    /// number.
    pub(super) fn new(memory: u64) -> Self {
        let share = match memory {
            0 => usize::MAX,
            memory => usize::try_from(memory / SHARE).unwrap_or(usize::MAX),
        };
        Self {
            peers: Mutex::default(),
            max_bytes: share.min(MAX_BYTES),
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock()
    }

    /// Remembers `addresses` for at least `lifetime`.
    pub(super) fn add(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        lifetime: Duration,
        origin: Origin,
    ) {
        let now = Instant::now();
        let mut peers = self.peers();
        peers.change_or_add(peer, |known| {
            known.addresses.retain(|entry| entry.expiry > now);
            for address in addresses {
                known.learn(address, now + lifetime, origin, false);
            }
        });
        peers.fit(self.max_bytes);
    }

    /// Replaces what identify told earlier by `addresses`.
    pub(super) fn set_connected(&self, peer: PeerId, addresses: Vec<Multiaddr>, origin: Origin) {
        let temporary = Instant::now() + RECENTLY_CONNECTED;
        self.peers().change(&peer, |known| {
            known.addresses.retain(|entry| entry.expiry <= temporary);
        });
        self.add(peer, addresses, CONNECTED, origin);
    }

    /// There is a connection to the peer, at an address of this prefix; `dialed` is the address that
    /// led to it.
    pub(super) fn connected(
        &self,
        peer: PeerId,
        dialed: Option<Multiaddr>,
        prefix: Option<IpAddr>,
    ) {
        let now = Instant::now();
        let mut peers = self.peers();
        peers.change_or_add(peer, |known| {
            known.connected = true;
            known.prefix = prefix;
            if let Some(address) = dialed {
                known.learn(address, now + TEMPORARY, Origin::Given, true);
            }
        });
        peers.fit(self.max_bytes);
    }

    /// Starts the countdown of the peer's addresses.
    pub(super) fn disconnected(&self, peer: &PeerId) {
        let limit = Instant::now() + RECENTLY_CONNECTED;
        let mut peers = self.peers();
        peers.change(peer, |known| {
            known.connected = false;
            for entry in &mut known.addresses {
                entry.expiry = entry.expiry.min(limit);
            }
        });
        peers.fit(self.max_bytes);
    }

    /// The address led to another peer: it is forgotten at once.
    pub(super) fn wrong(&self, peer: &PeerId, address: &Multiaddr) -> Fate {
        self.forget(peer, |entry| entry.address == *address)
    }

    /// The address could not be dialed.
    pub(super) fn failed(&self, peer: &PeerId, address: &Multiaddr) -> Fate {
        self.forget(peer, |entry| {
            if entry.address != *address {
                return false;
            }
            entry.failures = entry.failures.saturating_add(1);
            !entry.proven && entry.failures >= MAX_FAILURES
        })
    }

    fn forget(&self, peer: &PeerId, mut goes: impl FnMut(&mut Entry) -> bool) -> Fate {
        let forgotten = self.peers().change(peer, |known| {
            let before = known.addresses.len();
            known.addresses.retain_mut(|entry| !goes(entry));
            known.addresses.len() < before
        });
        match forgotten {
            Some(true) => Fate::Forgotten,
            _ => Fate::Kept,
        }
    }

    /// The peer's addresses, none expired, those that have failed least first.
    pub(super) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let now = Instant::now();
        let peers = self.peers();
        let addresses = peers.known.get(peer).map(|known| &known.addresses[..]);
        let fresh = addresses.unwrap_or_default().iter();
        let mut fresh: Vec<&Entry> = fresh.filter(|entry| entry.expiry > now).collect();
        fresh.sort_by_key(|entry| entry.failures);
        fresh.iter().map(|entry| entry.address.clone()).collect()
    }

    /// The addresses that a connected peer itself tells, and those that have led to it: nobody
    /// else has made them up.
    pub(super) fn own_word(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let now = Instant::now();
        let peers = self.peers();
        let addresses = peers.known.get(peer).map(|known| &known.addresses[..]);
        let told = |entry: &&Entry| {
            let by_itself = entry.expiry > now + RECENTLY_CONNECTED;
            entry.expiry > now && (by_itself || entry.proven)
        };
        let told = addresses.unwrap_or_default().iter().filter(told);
        told.map(|entry| entry.address.clone()).collect()
    }

    /// Peers without a connection that were dialed with success and are still remembered, those
    /// that were connected last first.
    pub(super) fn recently_connected(&self, max: usize) -> Vec<PeerId> {
        let now = Instant::now();
        let fresh = |entry: &&Entry| entry.proven && entry.expiry > now;
        let peers = self.peers();
        let mut recent: Vec<(Instant, PeerId)> = peers
            .known
            .iter()
            .filter(|(_, known)| !known.connected)
            .filter_map(|(peer, known)| {
                let entries = known.addresses.iter().filter(fresh);
                Some((entries.map(|entry| entry.expiry).max()?, *peer))
            })
            .collect();
        recent.sort_unstable_by(|a, b| b.cmp(a));
        recent.into_iter().take(max).map(|(_, peer)| peer).collect()
    }

    /// What to dial of the peer. None has expired.
    pub(super) fn candidates(&self, peer: &PeerId) -> Vec<Candidate> {
        let now = Instant::now();
        let peers = self.peers();
        let addresses = peers.known.get(peer).map(|known| &known.addresses[..]);
        let fresh = addresses.unwrap_or_default().iter();
        let fresh = fresh.filter(|entry| entry.expiry > now);
        fresh
            .map(|entry| Candidate {
                address: entry.address.clone(),
                origin: entry.origin,
                history: entry.history(),
            })
            .collect()
    }

    /// What is known of peers, in no order.
    pub(super) fn list(&self) -> Vec<(PeerId, Remembered)> {
        let now = Instant::now();
        let peers = self.peers();
        let known = peers.known.iter();
        let known = known.filter(|(_, known)| !known.is_worthless(now));
        known
            .map(|(peer, known)| {
                let remembered = Remembered {
                    connected: known.connected,
                    protocols: known.protocols.clone().unwrap_or_default(),
                };
                (*peer, remembered)
            })
            .collect()
    }

    /// The peer's addresses, and what is known of each.
    pub(super) fn known_addresses(&self, peer: &PeerId) -> Vec<KnownAddress> {
        let now = Instant::now();
        let peers = self.peers();
        let Some(known) = peers.known.get(peer) else {
            return Vec::new();
        };
        let fresh = known.addresses.iter().filter(|entry| entry.expiry > now);
        fresh
            .map(|entry| KnownAddress {
                address: entry.address.clone(),
                age: now.saturating_duration_since(entry.learned),
                expires: (!known.connected).then(|| entry.expiry.saturating_duration_since(now)),
                proven: entry.proven,
            })
            .collect()
    }

    /// Remembers what protocols a connected peer speaks.
    pub(super) fn set_protocols(&self, peer: &PeerId, protocols: Arc<[String]>) {
        let mut peers = self.peers();
        peers.change(peer, |known| known.protocols = Some(protocols));
        peers.fit(self.max_bytes);
    }

    /// The protocols that the peer spoke when it was last connected.
    pub(super) fn protocols(&self, peer: &PeerId) -> Option<Arc<[String]>> {
        let peers = self.peers();
        let known = peers.known.get(peer)?;
        let fresh = !known.is_worthless(Instant::now());
        known.protocols.clone().filter(|_| fresh)
    }

    /// Remembers the public key of a peer whose id does not contain it, for as long as one of
    /// its addresses.
    pub(super) fn set_key(&self, peer: &PeerId, key: PublicKey) {
        self.peers().change(peer, |known| known.key = Some(key));
    }

    /// The peer's public key, if it was remembered.
    pub(super) fn key(&self, peer: &PeerId) -> Option<PublicKey> {
        self.peers().known.get(peer)?.key.clone()
    }
}
