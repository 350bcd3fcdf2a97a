//! What is known of one peer.

use std::{net::IpAddr, sync::Arc, time::Instant};

use libp2p::{Multiaddr, identity::PublicKey};

use super::{
    super::dial::{History, Origin},
    RECENTLY_CONNECTED,
};

use crate::fixed_limits::fixed_limit;

/// Addresses remembered of one peer.
pub(super) const MAX_ADDRESSES: usize = 64;
fixed_limit!("addresses of one peer in the address book", MAX_ADDRESSES);
/// Longest address remembered, in bytes.
pub(super) const MAX_ADDRESS: usize = 512;
fixed_limit!("address in the address book", bytes MAX_ADDRESS);
/// Bytes of all addresses of one peer, each with what it takes beside its own (SECURITY.md 3).
pub(super) const MAX_ADDRESS_BYTES: usize = 16 * 1024;
fixed_limit!("addresses of one peer in the address book, their bytes", bytes MAX_ADDRESS_BYTES);

/// Bytes that an address takes beside its own.
const ENTRY: usize = 128;

/// Bytes that a peer takes beside its addresses, protocols and key.
const PEER: usize = 256;

/// Bytes that a protocol takes beside its name.
const NAME: usize = 32;

/// Bytes that a key takes; those that ids do not contain are of RSA, with 8,192 bits at the most.
const KEY: usize = 1200;

/// One address of a peer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Multiaddr,
    /// Until when it is remembered.
    pub(super) expiry: Instant,
    /// When it was last told, or led to the peer.
    pub(super) learned: Instant,
    /// Failed dials since it was learned or last led to the peer.
    pub(super) failures: u8,
    /// It has led to the peer.
    pub(super) proven: bool,
    /// On whose word it is remembered.
    pub(super) origin: Origin,
}

impl Entry {
    /// What it is worth to remember the address: that it has led to the peer, that the peer itself,
    /// a client or the operator tells it, that no dial to it has failed.
    fn worth(&self, now: Instant) -> (bool, bool, bool) {
        let by_itself = self.expiry > now + RECENTLY_CONNECTED;
        let vouched = by_itself || self.origin == Origin::Given;
        (self.proven, vouched, self.failures == 0)
    }

    pub(super) fn history(&self) -> History {
        match (self.failures, self.proven) {
            (0, true) => History::Worked,
            (0, false) => History::Unknown,
            _ => History::Failed,
        }
    }
}

/// What is known of one peer.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) addresses: Vec<Entry>,
    pub(super) connected: bool,
    /// What identify told; remembered for as long as an address.
    pub(super) protocols: Option<Arc<[String]>>,
    /// Unless the peer id contains it.
    pub(super) key: Option<PublicKey>,
    /// The address prefix that it was met at last.
    pub(super) prefix: Option<IpAddr>,
    /// What it counted when it was changed last.
    pub(super) bytes: usize,
}

impl Known {
    pub(super) fn expiry(&self) -> Option<Instant> {
        self.addresses.iter().map(|entry| entry.expiry).max()
    }

    pub(super) fn is_worthless(&self, now: Instant) -> bool {
        !self.connected && self.expiry().is_none_or(|expiry| expiry <= now)
    }

    fn address_bytes(&self) -> usize {
        let entries = self.addresses.iter();
        entries.map(|entry| entry.address.len() + ENTRY).sum()
    }

    /// Bytes of memory that this counts.
    pub(super) fn cost(&self) -> usize {
        let names = self.protocols.iter().flat_map(|names| names.iter());
        let names: usize = names.map(|name| name.len() + NAME).sum();
        let key = self.key.as_ref().map_or(0, |_| KEY);
        PEER + self.address_bytes() + names + key
    }

    /// Whether there is room for one more address.
    fn fits(&self, address: &Multiaddr) -> bool {
        let bytes = self.address_bytes() + address.len() + ENTRY;
        self.addresses.len() < MAX_ADDRESSES && bytes <= MAX_ADDRESS_BYTES
    }

    /// Remembers `address` until `expiry` at least. Where there is no room, those that are worth less
    /// make it, the first of them first; if there are none, the new one is left out. `proven` if it
    /// has just led to the peer.
    pub(super) fn learn(
        &mut self,
        address: Multiaddr,
        expiry: Instant,
        origin: Origin,
        proven: bool,
    ) {
        if address.len() > MAX_ADDRESS {
            return;
        }
        let now = Instant::now();
        let known = self.addresses.iter_mut().find(|e| e.address == address);
        if let Some(entry) = known {
            entry.expiry = entry.expiry.max(expiry);
            entry.learned = now;
            if origin == Origin::Given {
                entry.origin = origin;
            }
            if proven {
                entry.proven = true;
                entry.failures = 0;
            }
            return;
        }
        let entry = Entry {
            address,
            expiry,
            learned: now,
            failures: 0,
            proven,
            origin,
        };
        while !self.fits(&entry.address) {
            let places = self.addresses.iter().enumerate();
            let least = places.min_by_key(|(_, known)| known.worth(now));
            match least {
                Some((at, known)) if known.worth(now) < entry.worth(now) => {
                    self.addresses.remove(at);
                }
                _ => return,
            }
        }
        self.addresses.push(entry);
    }
}
