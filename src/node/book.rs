//! Addresses and keys of peers, with Go's lifetimes and our bounds.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::PublicKey};

/// Lifetime of addresses a client named (go-libp2p's temporary addresses).
pub(super) const TEMPORARY: Duration = Duration::from_secs(2 * 60);
/// Lifetime after the last connection closed (go-libp2p's recently connected).
pub(super) const RECENTLY_CONNECTED: Duration = Duration::from_secs(15 * 60);
/// Lifetime of what identify told while the peer is connected.
pub(super) const CONNECTED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Peers remembered, so that strangers cannot fill the memory (as in CVE-2023-40583). The one
/// that would expire first goes.
pub(crate) const MAX_PEERS: usize = 4096;
/// Addresses remembered of one peer.
const MAX_ADDRESSES: usize = 64;
/// Longest address remembered, in bytes.
const MAX_ADDRESS: usize = 512;

/// What is known of one peer.
#[derive(Debug, Default)]
struct Known {
    /// Each with the moment until which it is remembered.
    addresses: Vec<(Multiaddr, Instant)>,
    /// Unless the peer id contains it.
    key: Option<PublicKey>,
}

/// Known addresses and keys of peers.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    peers: Mutex<HashMap<PeerId, Known>>,
}

impl AddressBook {
    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Known>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers `addresses` for at least `lifetime`.
    pub(super) fn add(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        lifetime: Duration,
    ) {
        let now = Instant::now();
        let expiry = now + lifetime;
        let mut peers = self.peers();
        if !peers.contains_key(&peer) && peers.len() >= MAX_PEERS {
            make_room(&mut peers, now);
        }
        let known = &mut peers.entry(peer).or_default().addresses;
        known.retain(|(_, expiry)| *expiry > now);
        for address in addresses {
            if address.len() > MAX_ADDRESS {
                continue;
            }
            if let Some(entry) = known.iter_mut().find(|(other, _)| *other == address) {
                entry.1 = entry.1.max(expiry);
            } else if known.len() < MAX_ADDRESSES {
                known.push((address, expiry));
            }
        }
        if known.is_empty() {
            peers.remove(&peer);
        }
    }

    /// Replaces what identify told earlier by `addresses`.
    pub(super) fn set_connected(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let temporary = Instant::now() + RECENTLY_CONNECTED;
        if let Some(known) = self.peers().get_mut(&peer) {
            known.addresses.retain(|(_, expiry)| *expiry <= temporary);
        }
        self.add(peer, addresses, CONNECTED);
    }

    /// Starts the countdown of the peer's addresses.
    pub(super) fn disconnected(&self, peer: &PeerId) {
        let limit = Instant::now() + RECENTLY_CONNECTED;
        if let Some(known) = self.peers().get_mut(peer) {
            for (_, expiry) in &mut known.addresses {
                *expiry = (*expiry).min(limit);
            }
        }
    }

    /// The peer's addresses, none expired.
    pub(super) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let now = Instant::now();
        self.peers().get(peer).map_or_else(Vec::new, |known| {
            let fresh = known.addresses.iter().filter(|(_, expiry)| *expiry > now);
            fresh.map(|(address, _)| address.clone()).collect()
        })
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

fn make_room(peers: &mut HashMap<PeerId, Known>, now: Instant) {
    let last = |known: &Known| known.addresses.iter().map(|(_, expiry)| *expiry).max();
    peers.retain(|_, known| last(known) > Some(now));
    if peers.len() < MAX_PEERS {
        return;
    }
    let first = peers
        .iter()
        .min_by_key(|(_, known)| last(known))
        .map(|(peer, _)| *peer);
    if let Some(peer) = first {
        peers.remove(&peer);
    }
}
