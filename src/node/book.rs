//! Addresses, protocols and keys of peers, with Go's lifetimes and our bounds.

mod known;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
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
/// that are not connected the one that would expire first goes.
pub(crate) const MAX_PEERS: usize = 4096;
/// Failed dials in a row after which an address is forgotten that has never led to its peer. One
/// that has is kept for its lifetime: its peer may come back.
const MAX_FAILURES: u8 = 3;

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

/// Known addresses, protocols and keys of peers.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    peers: Mutex<HashMap<PeerId, Known>>,
}

impl AddressBook {
    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Known>> {
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
        let known = entry(&mut peers, peer, now);
        known.addresses.retain(|entry| entry.expiry > now);
        for address in addresses {
            known.learn(address, now + lifetime, origin);
        }
        if known.is_worthless(now) {
            peers.remove(&peer);
        }
    }

    /// Replaces what identify told earlier by `addresses`.
    pub(super) fn set_connected(&self, peer: PeerId, addresses: Vec<Multiaddr>, origin: Origin) {
        let temporary = Instant::now() + RECENTLY_CONNECTED;
        if let Some(known) = self.peers().get_mut(&peer) {
            known.addresses.retain(|entry| entry.expiry <= temporary);
        }
        self.add(peer, addresses, CONNECTED, origin);
    }

    /// There is a connection to the peer; `dialed` is the address that led to it.
    pub(super) fn connected(&self, peer: PeerId, dialed: Option<Multiaddr>) {
        let now = Instant::now();
        let mut peers = self.peers();
        let known = entry(&mut peers, peer, now);
        known.connected = true;
        if let Some(address) = dialed
            && let Some(entry) = known.learn(address, now + TEMPORARY, Origin::Given)
        {
            entry.failures = 0;
            entry.proven = true;
        }
    }

    /// Starts the countdown of the peer's addresses.
    pub(super) fn disconnected(&self, peer: &PeerId) {
        let now = Instant::now();
        let limit = now + RECENTLY_CONNECTED;
        let mut peers = self.peers();
        let Some(known) = peers.get_mut(peer) else {
            return;
        };
        known.connected = false;
        for entry in &mut known.addresses {
            entry.expiry = entry.expiry.min(limit);
        }
        if known.is_worthless(now) {
            peers.remove(peer);
        }
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
        let mut peers = self.peers();
        let Some(known) = peers.get_mut(peer) else {
            return Fate::Kept;
        };
        let before = known.addresses.len();
        known.addresses.retain_mut(|entry| !goes(entry));
        let forgotten = known.addresses.len() < before;
        if known.is_worthless(Instant::now()) {
            peers.remove(peer);
        }
        match forgotten {
            true => Fate::Forgotten,
            false => Fate::Kept,
        }
    }

    /// The peer's addresses, none expired, those that have failed least first.
    pub(super) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let now = Instant::now();
        let peers = self.peers();
        let addresses = peers.get(peer).map(|known| &known.addresses[..]);
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
        let addresses = peers.get(peer).map(|known| &known.addresses[..]);
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
        let addresses = peers.get(peer).map(|known| &known.addresses[..]);
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
        let known = peers.iter().filter(|(_, known)| !known.is_worthless(now));
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
        let Some(known) = peers.get(peer) else {
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
        if let Some(known) = self.peers().get_mut(peer) {
            known.protocols = Some(protocols);
        }
    }

    /// The protocols that the peer spoke when it was last connected.
    pub(super) fn protocols(&self, peer: &PeerId) -> Option<Arc<[String]>> {
        let peers = self.peers();
        let known = peers.get(peer)?;
        let fresh = !known.is_worthless(Instant::now());
        known.protocols.clone().filter(|_| fresh)
    }

    /// Remembers the public key of a peer whose id does not contain it, for as long as one of
    /// its addresses.
    pub(super) fn set_key(&self, peer: &PeerId, key: PublicKey) {
        if let Some(known) = self.peers().get_mut(peer) {
            known.key = Some(key);
        }
    }

    /// The peer's public key, if it was remembered.
    pub(super) fn key(&self, peer: &PeerId) -> Option<PublicKey> {
        self.peers().get(peer)?.key.clone()
    }
}

/// The peer's place, for which another may have to go.
fn entry(peers: &mut HashMap<PeerId, Known>, peer: PeerId, now: Instant) -> &mut Known {
    if !peers.contains_key(&peer) && peers.len() >= MAX_PEERS {
        make_room(peers, now);
    }
    peers.entry(peer).or_default()
}

fn make_room(peers: &mut HashMap<PeerId, Known>, now: Instant) {
    peers.retain(|_, known| !known.is_worthless(now));
    if peers.len() < MAX_PEERS {
        return;
    }
    let first = peers
        .iter()
        .min_by_key(|(_, known)| (known.connected, known.expiry()))
        .map(|(peer, _)| *peer);
    if let Some(peer) = first {
        peers.remove(&peer);
    }
}
