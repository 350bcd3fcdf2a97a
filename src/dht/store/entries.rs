//! Entries that expire, within a budget of bytes that peers share fairly.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{
    super::Usage,
    shares::{Holder, Shares},
};

use crate::fixed_limits::fixed_limit;

/// How long a record or a provider is held (go-libp2p-kad-dht's `MaxRecordAge` and
/// `ProvideValidity`).
pub(in super::super) const LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
fixed_limit!("DHT: age of records and providers", time LIFETIME);

/// Entries that one call of [`Entries::expire`] removes, so that the lock around them is not held
/// for long: 1,000 take less than 2 ms in a debug build.
pub(super) const MAX_EXPIRED: usize = 1000;

/// When an entry was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    received: SystemTime,
    /// Distinguishes what was received at the same time.
    number: u64,
}

#[derive(Debug)]
pub(super) struct Entry<V> {
    pub(super) value: V,
    pub(super) rank: Rank,
    pub(super) holder: Holder,
    cost: usize,
}

impl<V> Entry<V> {
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        // A clock that was set back makes nothing expire.
        now.duration_since(self.rank.received)
            .map_or(true, |age| age < LIFETIME)
    }
}

/// A map with a budget of bytes whose entries expire.
#[derive(Debug)]
pub(super) struct Entries<K, V> {
    pub(super) by_key: BTreeMap<K, Entry<V>>,
    by_age: BTreeMap<Rank, K>,
    by_holder: BTreeSet<(Holder, Rank)>,
    shares: Shares,
    bytes: usize,
    budget: usize,
    number: u64,
    /// Entries evicted so far.
    evicted: u64,
}

impl<K: Ord + Clone, V> Entries<K, V> {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_age: BTreeMap::new(),
            by_holder: BTreeSet::new(),
            shares: Shares::default(),
            bytes: 0,
            budget,
            number: 0,
            evicted: 0,
        }
    }

    /// Inserts an entry of `cost` bytes and returns the keys that were evicted for it: the oldest
    /// of whoever holds most, and those of this daemon's clients last.
    pub(super) fn insert(
        &mut self,
        key: K,
        value: V,
        cost: usize,
        holder: Holder,
        at: SystemTime,
    ) -> Vec<K> {
        self.remove(&key);
        self.number += 1;
        let rank = Rank {
            received: at,
            number: self.number,
        };
        self.by_age.insert(rank, key.clone());
        self.by_holder.insert((holder, rank));
        self.shares.add(&holder, cost);
        self.bytes += cost;
        let entry = Entry {
            value,
            rank,
            holder,
            cost,
        };
        self.by_key.insert(key, entry);
        let mut gone = Vec::new();
        while self.bytes > self.budget {
            let holder = self.shares.largest().unwrap_or(Holder::Own);
            let Some(key) = self.oldest_of(holder) else {
                break;
            };
            self.evict(&key);
            gone.push(key);
        }
        gone
    }

    fn oldest_of(&self, holder: Holder) -> Option<K> {
        let first = Rank {
            received: SystemTime::UNIX_EPOCH,
            number: 0,
        };
        let (other, rank) = self.by_holder.range((holder, first)..).next()?;
        let key = self.by_age.get(rank)?;
        (*other == holder).then(|| key.clone())
    }

    /// Removes an entry that another takes the place of.
    pub(super) fn evict(&mut self, key: &K) {
        self.remove(key);
        self.evicted += 1;
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.by_key.remove(key) {
            self.by_age.remove(&entry.rank);
            self.by_holder.remove(&(entry.holder, entry.rank));
            self.shares.remove(&entry.holder, entry.cost);
            self.bytes -= entry.cost;
        }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.by_key.len(),
            bytes: self.bytes,
            evicted: self.evicted,
        }
    }

    /// Removes some of what has expired at `now`, at most [`MAX_EXPIRED`] entries, and returns
    /// their keys.
    pub(super) fn expire(&mut self, now: SystemTime) -> Vec<K> {
        let Some(limit) = now.checked_sub(LIFETIME) else {
            return Vec::new();
        };
        let limit = Rank {
            received: limit,
            number: 0,
        };
        let expired = self.by_age.range(..limit).take(MAX_EXPIRED);
        let expired: Vec<K> = expired.map(|(_, key)| key.clone()).collect();
        for key in &expired {
            self.remove(key);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use libp2p::PeerId;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn peer(prefix: u8, peer: Option<PeerId>) -> Holder {
        Holder::Peer {
            prefix: Some(IpAddr::from([10, 0, 0, prefix])),
            peer,
        }
    }

    #[test]
    fn the_oldest_are_evicted_and_own_entries_last() {
        let mut entries = Entries::new(30);
        let other = peer(1, None);
        let mut insert =
            |key, cost, holder, second| entries.insert(key, (), cost, holder, at(second));
        assert!(insert("own", 10, Holder::Own, 1).is_empty());
        assert!(insert("old", 10, other, 2).is_empty());
        assert!(insert("new", 10, other, 3).is_empty());
        assert_eq!(insert("third", 10, other, 4), ["old"]);
        assert_eq!(insert("huge", 25, other, 5), ["new", "third", "huge"]);
        assert_eq!(insert("mine", 25, Holder::Own, 6), ["own"]);
        assert_eq!(entries.bytes, 25);
        assert_eq!(entries.by_age.len(), entries.by_key.len());
    }

    #[test]
    fn whoever_holds_most_gives_way() {
        let mut entries = Entries::new(1000);
        let (honest, greedy) = (peer(1, None), peer(2, None));
        for number in 0..10_u64 {
            entries.insert(("honest", number), (), 10, honest, at(0));
        }
        for number in 0..10_000 {
            entries.insert(("greedy", number), (), 10, greedy, at(1));
        }
        let of = |name| entries.by_key.keys().filter(|key| key.0 == name).count();
        assert_eq!((of("honest"), of("greedy")), (10, 90));
        assert!(entries.by_key.contains_key(&("greedy", 9_999)));
        // A prefix counts as one, however many peers it has.
        for number in 0..10_000 {
            let holder = peer(2, Some(PeerId::random()));
            entries.insert(("sybil", number), (), 10, holder, at(2));
        }
        let of = |name| entries.by_key.keys().filter(|key| key.0 == name).count();
        assert_eq!(of("honest"), 10);
    }

    #[test]
    fn an_entry_that_is_replaced_counts_once() {
        let mut entries = Entries::new(100);
        for second in 0..50 {
            let holder = peer(u8::try_from(second).expect("small"), None);
            let gone = entries.insert("key", second, 60, holder, at(second));
            assert!(gone.is_empty());
        }
        assert_eq!((entries.bytes, entries.by_age.len()), (60, 1));
        assert_eq!(entries.by_holder.len(), 1);
        assert_eq!(entries.by_key["key"].value, 49);
    }

    #[test]
    fn entries_expire_after_their_lifetime() {
        let mut entries = Entries::new(100);
        entries.insert("own", (), 1, Holder::Own, at(0));
        entries.insert("old", (), 1, Holder::UNKNOWN, at(0));
        entries.insert("new", (), 1, Holder::UNKNOWN, at(10));
        let lifetime = LIFETIME.as_secs();
        assert!(entries.expire(at(lifetime)).is_empty());
        assert_eq!(entries.expire(at(lifetime + 5)), ["own", "old"]);
        assert_eq!(entries.expire(at(lifetime + 11)), ["new"]);
        assert!(entries.by_age.is_empty() && entries.bytes == 0);
    }

    #[test]
    fn a_lock_is_held_for_so_many_entries_at_most() {
        let mut entries = Entries::new(usize::MAX);
        for number in 0..2 * MAX_EXPIRED {
            entries.insert(number, (), 1, Holder::UNKNOWN, at(0));
        }
        let late = at(2 * LIFETIME.as_secs());
        assert_eq!(entries.expire(late).len(), MAX_EXPIRED);
        assert_eq!(entries.expire(late).len(), MAX_EXPIRED);
        assert!(entries.expire(late).is_empty());
    }

    proptest! {
        /// Whatever is inserted, replaced and expired: the indices agree and the budget holds.
        #[test]
        fn indices_agree(steps in prop::collection::vec(
            (0..20_u8, 1..40_usize, 0..4_u8, 0..3_u8, 0..100_u64), 0..200,
        )) {
            let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
            let mut entries = Entries::new(200);
            for (key, cost, prefix, number, second) in steps {
                let holder = match prefix {
                    0 => Holder::Own,
                    prefix => peer(prefix, Some(peers[usize::from(number)])),
                };
                let gone = entries.insert(key, (), cost, holder, at(second));
                prop_assert!(gone.iter().all(|key| !entries.by_key.contains_key(key)));
                if second == 0 {
                    entries.expire(at(LIFETIME.as_secs() + 50));
                }
                let sum: usize = entries.by_key.values().map(|entry| entry.cost).sum();
                prop_assert_eq!(entries.bytes, sum);
                prop_assert!(sum <= 200);
                prop_assert_eq!(entries.by_age.len(), entries.by_key.len());
                prop_assert_eq!(entries.by_holder.len(), entries.by_key.len());
            }
            for key in 0..20 {
                entries.evict(&key);
            }
            prop_assert!(entries.shares.largest().is_none());
        }
    }
}
