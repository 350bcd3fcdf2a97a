//! Memory that is held because of a peer or a client, reserved before it is allocated.
//!
//! A [`Charge`] is taken from several accounts at once: that of its holder, and that of all clients,
//! or that of the address prefix the peer came from and that of all peers together. If one of them
//! has no room, nothing is taken and the caller must not allocate (go-libp2p's resource manager
//! works the same way). The ladder of [`super::watch`] acts on the memory that the process really
//! uses. These accounts keep what strangers can make it use below that, and tell whom to cut.

mod scope;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Weak},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use parking_lot::Mutex;

use crate::limit_hits::Limit;
pub(crate) use scope::CLIENT_FLOOR;
use scope::Scope;
pub use scope::{OverBudget, Shares};

/// An IPv6 site: go-libp2p limits connections by /56 as well.
const IPV6_PREFIX: u32 = 56;

/// The address prefix that peers are counted by: one IPv4 address or one IPv6 /56. `None` for
/// addresses without an IP, such as those of a relayed connection that names its relay by DNS.
#[must_use]
pub(crate) fn prefix(remote: &Multiaddr) -> Option<IpAddr> {
    let mut parts = remote.iter();
    match parts.find(|part| !matches!(part, Protocol::Ip6zone(_)))? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(ip.to_ipv4_mapped().map_or_else(
            || {
                let mask = u128::MAX << (128 - IPV6_PREFIX);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            },
            IpAddr::V4,
        )),
        _ => None,
    }
}

/// The accounts of all peers and clients of this process.
#[derive(Debug)]
pub struct Ledger {
    shares: Shares,
    peers: Scope,
    clients: Scope,
    /// Entries live as long as an account of theirs.
    prefixes: Mutex<HashMap<IpAddr, Weak<Scope>>>,
}

impl Ledger {
    /// The accounts of a process that may use `budget` bytes, whatever the size of frames is. 0 stands
    /// for an unknown budget.
    #[must_use]
    pub fn new(budget: u64) -> Arc<Self> {
        Self::with_shares(Shares::of(budget, 0))
    }

    /// Accounts with these shares, all of them empty.
    #[must_use]
    pub fn with_shares(shares: Shares) -> Arc<Self> {
        Arc::new(Self {
            shares,
            peers: Scope::new(shares.all),
            clients: Scope::new(shares.clients),
            prefixes: Mutex::default(),
        })
    }

    /// Bytes charged to all accounts, without the first bytes of each client.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.peers.used() + self.clients.used()
    }

    /// An account for a peer that was met at `remote`.
    #[must_use]
    pub fn peer(self: &Arc<Self>, remote: &Multiaddr) -> Arc<Account> {
        let prefix = prefix(remote).map(|prefix| (prefix, self.prefix(prefix)));
        self.account(Holder::Peer(prefix))
    }

    /// An account for a client of this daemon.
    #[must_use]
    pub fn client(self: &Arc<Self>) -> Arc<Account> {
        self.account(Holder::Client)
    }

    fn prefix(&self, prefix: IpAddr) -> Arc<Scope> {
        let mut prefixes = self.prefixes.lock();
        let known = prefixes.get(&prefix).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let scope = Arc::new(Scope::new(self.shares.prefix));
            prefixes.insert(prefix, Arc::downgrade(&scope));
            scope
        })
    }

    fn account(self: &Arc<Self>, holder: Holder) -> Arc<Account> {
        Arc::new(Account {
            used: Mutex::new(0),
            holder,
            ledger: self.clone(),
        })
    }
}

/// Whose account it is.
#[derive(Debug)]
enum Holder {
    Client,
    /// With the account of its address prefix, if it has one.
    Peer(Option<(IpAddr, Arc<Scope>)>),
}

/// What one peer or client makes the daemon hold.
#[derive(Debug)]
pub struct Account {
    /// Held while the accounts around it change as well, so that their sums agree.
    used: Mutex<u64>,
    holder: Holder,
    ledger: Arc<Ledger>,
}

impl Account {
    /// Reserves `bytes` for as long as the charge lives. Call it before allocating.
    ///
    /// # Errors
    /// If the holder, its address prefix or all others together would hold more than their share.
    /// The refusal is counted.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, OverBudget> {
        let mut charge = self.empty_charge();
        charge.resize(bytes)?;
        Ok(charge)
    }

    /// A charge of nothing, to be resized.
    pub fn empty_charge(self: &Arc<Self>) -> Charge {
        Charge {
            account: self.clone(),
            bytes: 0,
        }
    }

    /// The address prefix that the account is counted by, if it has one.
    #[must_use]
    pub fn prefix(&self) -> Option<IpAddr> {
        match &self.holder {
            Holder::Peer(Some((prefix, _))) => Some(*prefix),
            Holder::Peer(None) | Holder::Client => None,
        }
    }

    /// Bytes charged to this account.
    #[must_use]
    pub fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// Bytes that may be charged to this account.
    #[must_use]
    pub fn limit(&self) -> u64 {
        match &self.holder {
            Holder::Client => self.ledger.shares.client,
            Holder::Peer(_) => self.ledger.shares.holder,
        }
    }

    /// Of `used` bytes, those that the accounts around this one count.
    fn shared(&self, used: u64) -> u64 {
        match &self.holder {
            Holder::Client => used.saturating_sub(CLIENT_FLOOR),
            Holder::Peer(_) => used,
        }
    }

    /// Whether half of what all clients may hold is left after `bytes` more.
    fn leaves_half(&self, bytes: u64) -> bool {
        let half = self.ledger.shares.clients / 2;
        matches!(self.holder, Holder::Peer(_))
            || bytes == 0
            || self.ledger.clients.used().saturating_add(bytes) <= half
    }

    fn reserve(&self, bytes: u64) -> Result<(), OverBudget> {
        let mut used = self.used.lock();
        let sum = used.checked_add(bytes).filter(|sum| *sum <= self.limit());
        let sum = sum.ok_or(OverBudget)?;
        self.reserve_shared(self.shared(sum) - self.shared(*used))?;
        *used = sum;
        Ok(())
    }

    /// The accounts of several holders are left alone where nothing changes.
    fn reserve_shared(&self, bytes: u64) -> Result<(), OverBudget> {
        if bytes == 0 {
            return Ok(());
        }
        let prefix = match &self.holder {
            Holder::Client => return self.ledger.clients.reserve(bytes),
            Holder::Peer(prefix) => prefix.as_ref().map(|(_, scope)| scope),
        };
        if let Some(prefix) = prefix {
            prefix.reserve(bytes)?;
        }
        self.ledger.peers.reserve(bytes).inspect_err(|_| {
            if let Some(prefix) = prefix {
                prefix.release(bytes);
            }
        })
    }

    fn release(&self, bytes: u64) {
        let mut used = self.used.lock();
        let left = used.saturating_sub(bytes);
        let shared = self.shared(*used) - self.shared(left);
        *used = left;
        if shared == 0 {
            return;
        }
        match &self.holder {
            Holder::Client => self.ledger.clients.release(shared),
            Holder::Peer(prefix) => {
                if let Some((_, prefix)) = prefix {
                    prefix.release(shared);
                }
                self.ledger.peers.release(shared);
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let holder = std::mem::replace(&mut self.holder, Holder::Client);
        if let Holder::Peer(Some((prefix, scope))) = holder {
            let mut prefixes = self.ledger.prefixes.lock();
            // Under the lock that scopes are taken under, so that of several the last one sees it.
            drop(scope);
            let known = prefixes.get(&prefix);
            if known.is_some_and(|scope| scope.strong_count() == 0) {
                prefixes.remove(&prefix);
            }
        }
    }
}

/// Reserved bytes. They are given back when it is dropped.
#[derive(Debug)]
#[must_use = "the reservation ends when it is dropped"]
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Charge {
    /// Changes the reservation to `bytes`. It stays as it was if there is no room for more.
    ///
    /// # Errors
    /// As [`Account::charge`].
    pub fn resize(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.try_resize(bytes).inspect_err(|_| {
            Limit::MemoryCharged.hit();
        })
    }

    /// As [`Charge::resize`], for a caller that can do with less: a refusal is not counted.
    ///
    /// # Errors
    /// As [`Account::charge`].
    pub fn try_resize(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let before = self.bytes;
        self.try_resize_briefly(bytes)?;
        super::received::reserved(self.bytes.saturating_sub(before));
        Ok(())
    }

    /// As [`Charge::try_resize`], for room that may not be needed: the ladder is not told. The caller
    /// gives back at once what is left of it, and tells what it keeps ([`super::received()`]).
    ///
    /// # Errors
    /// As [`Account::charge`].
    pub fn try_resize_briefly(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.account.reserve(more)?,
            None => self.account.release(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// As [`Charge::resize`], for what a client can lose without an error. Such charges leave half
    /// of what all clients may hold to their requests.
    ///
    /// # Errors
    /// As [`Account::charge`].
    pub fn resize_dispensable(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.account.leaves_half(wanted.saturating_sub(self.bytes)) {
            return self.resize(bytes);
        }
        Limit::MemoryCharged.hit();
        Err(OverBudget)
    }

    /// Gives back what is above `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).min(self.bytes);
        if bytes < self.bytes {
            self.account.release(self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    /// Adds `other`, which is of the same account.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.account, &other.account));
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The reserved bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests;
