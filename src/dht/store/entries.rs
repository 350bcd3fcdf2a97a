//! Entries that expire, within a budget of bytes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::super::Usage;

/// How long a record or a provider is held (go-libp2p-kad-dht's `MaxRecordAge` and
/// `ProvideValidity`).
pub(in super::super) const LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);

/// The order in which entries go: others' before own, old before new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    own: bool,
    received: SystemTime,
    /// Tells apart what was received at the same time.
    number: u64,
}

#[derive(Debug)]
pub(super) struct Entry<V> {
    pub(super) value: V,
    pub(super) rank: Rank,
    cost: usize,
}

/// A map with a budget of bytes whose entries expire.
#[derive(Debug)]
pub(super) struct Entries<K, V> {
    pub(super) by_key: BTreeMap<K, Entry<V>>,
    order: BTreeMap<Rank, K>,
    bytes: usize,
    budget: usize,
    number: u64,
    /// Entries that had to make room so far.
    evicted: u64,
}

impl<K: Ord + Clone, V> Entries<K, V> {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            by_key: BTreeMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            budget,
            number: 0,
            evicted: 0,
        }
    }

    /// Returns the keys that had to make room.
    pub(super) fn insert(
        &mut self,
        key: K,
        value: V,
        cost: usize,
        own: bool,
        at: SystemTime,
    ) -> Vec<K> {
        self.remove(&key);
        self.number += 1;
        let rank = Rank {
            own,
            received: at,
            number: self.number,
        };
        self.order.insert(rank, key.clone());
        self.by_key.insert(key, Entry { value, rank, cost });
        self.bytes += cost;
        let mut gone = Vec::new();
        while self.bytes > self.budget {
            let Some((_, key)) = self.order.first_key_value() else {
                break;
            };
            let key = key.clone();
            self.remove(&key);
            gone.push(key);
            self.evicted += 1;
        }
        gone
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.by_key.remove(key) {
            self.order.remove(&entry.rank);
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

    /// Removes what has expired at `now` and returns its keys.
    pub(super) fn expire(&mut self, now: SystemTime) -> Vec<K> {
        let Some(limit) = now.checked_sub(LIFETIME) else {
            return Vec::new();
        };
        let expired: Vec<K> = [false, true]
            .into_iter()
            .flat_map(|own| {
                let first = Rank {
                    own,
                    received: SystemTime::UNIX_EPOCH,
                    number: 0,
                };
                let last = Rank {
                    received: limit,
                    ..first
                };
                self.order.range(first..last).map(|(_, key)| key.clone())
            })
            .collect();
        for key in &expired {
            self.remove(key);
        }
        expired
    }
}

pub(super) fn is_fresh(rank: &Rank, now: SystemTime) -> bool {
    // A clock that was set back makes nothing expire.
    now.duration_since(rank.received)
        .map_or(true, |age| age < LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn room_is_made_by_the_oldest_and_by_own_entries_last() {
        let mut entries = Entries::new(30);
        assert!(entries.insert("own", (), 10, true, at(1)).is_empty());
        assert!(entries.insert("old", (), 10, false, at(2)).is_empty());
        assert!(entries.insert("new", (), 10, false, at(3)).is_empty());
        assert_eq!(entries.insert("third", (), 10, false, at(4)), ["old"]);
        assert_eq!(
            entries.insert("huge", (), 25, false, at(5)),
            ["new", "third", "huge"]
        );
        assert_eq!(entries.insert("mine", (), 25, true, at(6)), ["own"]);
        assert_eq!(entries.bytes, 25);
        assert_eq!(entries.order.len(), entries.by_key.len());
    }

    #[test]
    fn an_entry_that_is_replaced_counts_once() {
        let mut entries = Entries::new(100);
        for second in 0..50 {
            assert!(
                entries
                    .insert("key", second, 60, false, at(second))
                    .is_empty()
            );
        }
        assert_eq!((entries.bytes, entries.order.len()), (60, 1));
        assert_eq!(entries.by_key["key"].value, 49);
    }

    #[test]
    fn entries_expire_after_their_lifetime() {
        let mut entries = Entries::new(100);
        entries.insert("own", (), 1, true, at(0));
        entries.insert("old", (), 1, false, at(0));
        entries.insert("new", (), 1, false, at(10));
        let lifetime = LIFETIME.as_secs();
        assert!(entries.expire(at(lifetime)).is_empty());
        assert_eq!(entries.expire(at(lifetime + 5)), ["old", "own"]);
        assert_eq!(entries.expire(at(lifetime + 11)), ["new"]);
        assert!(entries.order.is_empty() && entries.bytes == 0);
    }
}
