//! Which messages have been here.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
    time::{Duration, Instant},
};

use crate::limit_hits::Limit;

/// How long a message is remembered, so that nobody gets it twice (Go's time).
const MEMORY: Duration = Duration::from_secs(120);

/// Those that come within this time are forgotten together.
const GENERATION: Duration = Duration::from_secs(15);

/// Messages remembered (SECURITY.md 3); beyond, the oldest are forgotten early.
const MAX_SEEN: usize = 1 << 20;

/// Messages of one generation, so that forgetting early forgets a part only.
const MAX_GENERATION: usize = MAX_SEEN / 8;

/// Names a message in this process: a hash that nobody outside can aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct IdHash(u128);

static KEYS: LazyLock<[RandomState; 2]> =
    LazyLock::new(|| [RandomState::new(), RandomState::new()]);

impl IdHash {
    /// The hash of a message id.
    pub(super) fn of(message_id: &[u8]) -> Self {
        let [high, low] = KEYS
            .each_ref()
            .map(|key| u128::from(key.hash_one(message_id)));
        Self(high << 64 | low)
    }
}

/// The messages of the last two minutes.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The newest last, each with the moment of its first message.
    generations: VecDeque<(Instant, HashSet<IdHash>)>,
    count: usize,
}

impl Seen {
    pub(super) fn contains(&self, id: IdHash) -> bool {
        self.generations
            .iter()
            .rev()
            .any(|(_, ids)| ids.contains(&id))
    }

    /// Takes note of a message; false if it has been here.
    pub(super) fn insert(&mut self, id: IdHash, now: Instant) -> bool {
        if self.contains(id) {
            return false;
        }
        self.expire(now);
        if self.count >= MAX_SEEN
            && let Some((_, oldest)) = self.generations.pop_front()
        {
            Limit::PubsubSeen.hit();
            self.count -= oldest.len();
        }
        let fresh = |(since, ids): &(Instant, HashSet<IdHash>)| {
            now.duration_since(*since) < GENERATION && ids.len() < MAX_GENERATION
        };
        if !self.generations.back().is_some_and(fresh) {
            self.generations.push_back((now, HashSet::new()));
        }
        if let Some((_, ids)) = self.generations.back_mut() {
            ids.insert(id);
            self.count += 1;
        }
        true
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((since, ids)) = self.generations.front()
            && now.duration_since(*since) >= MEMORY + GENERATION
        {
            self.count -= ids.len();
            self.generations.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> IdHash {
        IdHash::of(&number.to_be_bytes())
    }

    #[test]
    fn a_message_is_new_once_in_two_minutes() {
        let mut seen = Seen::default();
        let start = Instant::now();
        for second in 0..400 {
            let now = start + Duration::from_secs(second as u64);
            assert!(seen.insert(id(second), now));
            assert!(!seen.insert(id(second.saturating_sub(119)), now));
        }
        let (first, last) = (id(0), id(399));
        assert!(!seen.contains(first) && seen.contains(last));
        assert!(seen.count <= 140, "{}", seen.count);
        seen.expire(start + Duration::from_secs(1000));
        assert_eq!((seen.count, seen.generations.len()), (0, 0));
    }

    #[test]
    fn there_is_a_bound_and_the_oldest_go_first() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for number in 0..MAX_SEEN + MAX_GENERATION {
            assert!(seen.insert(id(number), now));
            assert!(seen.count <= MAX_SEEN);
        }
        assert!(!seen.contains(id(0)));
        assert!(seen.contains(id(MAX_GENERATION)));
        assert!(seen.contains(id(MAX_SEEN + MAX_GENERATION - 1)));
    }
}
