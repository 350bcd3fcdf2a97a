//! Memory that is held because of a peer or a client, reserved before it is allocated.
//!
//! A [`Charge`] is taken from three accounts at once: that of its holder, that of the address
//! prefix the holder came from, and that of all strangers together. If one of them has no room,
//! nothing is taken and the caller must not allocate (go-libp2p's resource manager works the same
//! way). The ladder of [`super::watch`] acts on the memory that the process really uses; these
//! accounts keep what strangers can make it use below that, and tell whom to cut.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use parking_lot::Mutex;

use crate::limit_hits::Limit;

/// The part of the memory budget that all charges together may take (SECURITY.md 3).
pub(crate) const ALL_SHARE: u64 = 4;

/// The part of that which the peers of one address prefix may take (SECURITY.md 3).
pub(crate) const PREFIX_SHARE: u64 = 2;

/// The part of that which one peer or client may take (SECURITY.md 3).
pub(crate) const HOLDER_SHARE: u64 = 8;

/// Assumed where no memory budget is known, in bytes.
const ASSUMED_BUDGET: u64 = 1 << 30;

/// An IPv6 site: go-libp2p limits connections by /56 as well.
const IPV6_PREFIX: u32 = 56;

/// There is no room for the charge. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("memory limit reached")]
pub struct OverBudget;

/// Bytes that are reserved, and how many may be.
#[derive(Debug)]
struct Scope {
    used: AtomicU64,
    limit: u64,
}

impl Scope {
    fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit,
        }
    }

    fn reserve(&self, bytes: u64) -> Result<(), OverBudget> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let reserved = self.used.fetch_update(Relaxed, Relaxed, fits);
        reserved.map(drop).map_err(|_| OverBudget)
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}

/// The address prefix that peers are counted by: one IPv4 address or one IPv6 /56. `None` for
/// addresses without an IP, such as those of a relayed connection that names its relay by DNS.
#[must_use]
pub(crate) fn prefix(remote: &Multiaddr) -> Option<IpAddr> {
    match remote.iter().next()? {
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
    all: Scope,
    /// Entries live as long as an account of theirs.
    prefixes: Mutex<HashMap<IpAddr, Weak<Scope>>>,
}

/// Bytes that all charges, those of one address prefix and those of one holder may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Of all peers and clients together.
    pub all: u64,
    /// Of the peers of one IPv4 address or IPv6 /56.
    pub prefix: u64,
    /// Of one peer or client.
    pub holder: u64,
}

impl Shares {
    /// The shares of a process that may use `budget` bytes. 0 stands for an unknown budget.
    #[must_use]
    pub fn of(budget: u64) -> Self {
        let budget = if budget == 0 { ASSUMED_BUDGET } else { budget };
        let all = budget / ALL_SHARE;
        Self {
            all,
            prefix: all / PREFIX_SHARE,
            holder: all / HOLDER_SHARE,
        }
    }
}

impl Ledger {
    /// The accounts of a process that may use `budget` bytes. 0 stands for an unknown budget.
    #[must_use]
    pub fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self {
            all: Scope::new(Shares::of(budget).all),
            prefixes: Mutex::default(),
        })
    }

    /// Bytes charged to all accounts.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.all.used()
    }

    /// An account for a peer that was met at `remote`.
    #[must_use]
    pub fn peer(self: &Arc<Self>, remote: &Multiaddr) -> Arc<Account> {
        self.account(prefix(remote))
    }

    /// An account for a client of this daemon.
    #[must_use]
    pub fn client(self: &Arc<Self>) -> Arc<Account> {
        self.account(None)
    }

    fn account(self: &Arc<Self>, prefix: Option<IpAddr>) -> Arc<Account> {
        let prefix = prefix.map(|prefix| {
            let mut prefixes = self.prefixes.lock();
            let known = prefixes.get(&prefix).and_then(Weak::upgrade);
            let scope = known.unwrap_or_else(|| {
                let scope = Arc::new(Scope::new(self.all.limit / PREFIX_SHARE));
                prefixes.insert(prefix, Arc::downgrade(&scope));
                scope
            });
            (prefix, scope)
        });
        Arc::new(Account {
            own: Scope::new(self.all.limit / HOLDER_SHARE),
            prefix,
            ledger: self.clone(),
        })
    }
}

/// What one peer or client makes the daemon hold.
#[derive(Debug)]
pub struct Account {
    own: Scope,
    prefix: Option<(IpAddr, Arc<Scope>)>,
    ledger: Arc<Ledger>,
}

impl Account {
    /// Reserves `bytes` for as long as the charge lives. Call it before allocating.
    ///
    /// # Errors
    /// If the holder, its address prefix or all strangers together would hold more than their
    /// share. The refusal is counted.
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
        self.prefix.as_ref().map(|(prefix, _)| *prefix)
    }

    /// Bytes charged to this account.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.own.used()
    }

    /// Bytes that may be charged to this account.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.own.limit
    }

    fn reserve(&self, bytes: u64) -> Result<(), OverBudget> {
        self.own.reserve(bytes)?;
        if let Some((_, prefix)) = &self.prefix
            && let Err(error) = prefix.reserve(bytes)
        {
            self.own.release(bytes);
            return Err(error);
        }
        if let Err(error) = self.ledger.all.reserve(bytes) {
            self.own.release(bytes);
            if let Some((_, prefix)) = &self.prefix {
                prefix.release(bytes);
            }
            return Err(error);
        }
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.own.release(bytes);
        if let Some((_, prefix)) = &self.prefix {
            prefix.release(bytes);
        }
        self.ledger.all.release(bytes);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some((prefix, scope)) = &self.prefix {
            let mut prefixes = self.ledger.prefixes.lock();
            // Accounts take their scope under this lock, so the count cannot grow meanwhile.
            if Arc::strong_count(scope) == 1 {
                prefixes.remove(prefix);
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
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.account.reserve(more).inspect_err(|_| {
                Limit::MemoryCharged.hit();
            })?,
            None => self.account.release(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The reserved bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    /// All may hold 32 MiB, a prefix 16 and a holder 4.
    fn ledger() -> Arc<Ledger> {
        Ledger::new(128 << 20)
    }

    fn at(address: &str) -> Multiaddr {
        address.parse().expect("a multiaddr")
    }

    #[test]
    fn a_holder_a_prefix_and_all_have_their_shares() {
        let ledger = ledger();
        let one = ledger.peer(&at("/ip4/1.2.3.4/tcp/1"));
        let mut held = vec![one.charge(4 * MIB).expect("its own share")];
        assert_eq!(one.charge(1).err(), Some(OverBudget));
        // Other peers of that address use up the share of the prefix.
        let others: Vec<_> = (0..4)
            .map(|port| ledger.peer(&at(&format!("/ip4/1.2.3.4/udp/{port}/quic-v1"))))
            .collect();
        for other in &others[..3] {
            held.push(other.charge(4 * MIB).expect("room in the prefix"));
        }
        assert!(others[3].charge(1).is_err());
        assert_eq!(others[3].used(), 0, "a refusal leaves nothing behind");
        // Clients and other addresses use up the rest.
        for n in 0..4 {
            let account = match n % 2 {
                0 => ledger.client(),
                _ => ledger.peer(&at(&format!("/ip6/2001:db8::{n}/tcp/1"))),
            };
            held.push(account.charge(4 * MIB).expect("room among all"));
        }
        assert!(ledger.client().charge(1).is_err());
        drop(held);
        assert_eq!(ledger.used(), 0);
        assert!(one.charge(4 * MIB).is_ok());
    }

    #[test]
    fn ipv6_counts_by_site_and_prefixes_are_forgotten() {
        let ledger = ledger();
        let same = [
            "/ip6/2001:db8:0:1200::1/tcp/1",
            "/ip6/2001:db8:0:12ff::2/tcp/2",
        ];
        assert_eq!(prefix(&at(same[0])), prefix(&at(same[1])));
        assert_ne!(
            prefix(&at(same[0])),
            prefix(&at("/ip6/2001:db8:0:1300::1/tcp/1"))
        );
        assert_eq!(
            prefix(&at("/ip6/::ffff:1.2.3.4/tcp/1")),
            prefix(&at("/ip4/1.2.3.4/tcp/1"))
        );
        assert_eq!(prefix(&at("/dns4/a.example/tcp/1")), None);
        let accounts: Vec<_> = same.iter().map(|remote| ledger.peer(&at(remote))).collect();
        assert_eq!(ledger.prefixes.lock().len(), 1);
        let charge = accounts[0].charge(1).expect("room");
        drop(accounts);
        assert_eq!(ledger.prefixes.lock().len(), 1, "something is still held");
        drop(charge);
        assert!(ledger.prefixes.lock().is_empty());
    }

    proptest! {
        /// Whatever is charged, resized and dropped: sums agree and no share is exceeded.
        #[test]
        fn sums_agree(steps in prop::collection::vec((0..6_usize, 0..6 * MIB, any::<bool>()), 0..60)) {
            let ledger = ledger();
            let accounts: Vec<_> = (0..6)
                .map(|n| ledger.peer(&at(&format!("/ip4/10.0.0.{}/tcp/1", n / 4))))
                .collect();
            let mut held: Vec<Vec<Charge>> = (0..6).map(|_| Vec::new()).collect();
            for (holder, bytes, takes) in steps {
                let sum = |held: &[Charge]| held.iter().map(Charge::bytes).sum::<u64>();
                let all: u64 = held.iter().map(|held| sum(held)).sum();
                let group = if holder < 4 { 0..4 } else { 4..6 };
                let of_prefix: u64 = held[group].iter().map(|held| sum(held)).sum();
                let own = sum(&held[holder]);
                let bytes64 = bytes as u64;
                if takes {
                    let fits = own + bytes64 <= 4 << 20
                        && of_prefix + bytes64 <= 16 << 20
                        && all + bytes64 <= 32 << 20;
                    let charge = accounts[holder].charge(bytes);
                    prop_assert_eq!(charge.is_ok(), fits);
                    held[holder].extend(charge);
                } else if let Some(mut charge) = held[holder].pop() {
                    let smaller = usize::try_from(charge.bytes()).expect("small").min(bytes);
                    prop_assert!(charge.resize(smaller).is_ok());
                    held[holder].push(charge);
                }
                let now: u64 = held.iter().map(|held| sum(held)).sum();
                prop_assert_eq!(ledger.used(), now);
                prop_assert_eq!(accounts[holder].used(), sum(&held[holder]));
            }
            drop(held);
            prop_assert_eq!(ledger.used(), 0);
        }
    }
}
