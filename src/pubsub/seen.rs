//! Which messages were seen before.

mod authors;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
    time::{Duration, Instant},
};

use crate::{fixed_limits::fixed_limit, limit_hits::Limit};
use authors::Authors;
pub(super) use authors::Sequence;

/// How long a message is remembered, so that nobody gets it twice (Go's time).
const MEMORY: Duration = Duration::from_secs(120);

/// Those that come within this time are forgotten together.
const GENERATION: Duration = Duration::from_secs(15);

/// Messages remembered (SECURITY.md 3); beyond, the oldest are forgotten early.
const MAX_SEEN: usize = 1 << 20;
fixed_limit!(
    "pubsub: messages remembered, so that none comes twice",
    MAX_SEEN
);

/// Memory in bytes for each message that is remembered, where there is little: a sixteenth of it is for
/// them, and one takes 40 bytes at the most.
const SHARE: u64 = 16 * 40;

/// Generations that are full when the limit is reached, so that forgetting early forgets a part only.
const GENERATIONS: usize = 8;

/// Authors whose numbers are noted in one generation (SECURITY.md 3). Further ones have their
/// messages forgotten without a trace.
const MAX_AUTHORS: usize = 4096;
fixed_limit!("pubsub: authors noted so in 15 s", MAX_AUTHORS);

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

/// Messages that came within 15 s, and are forgotten together.
#[derive(Debug)]
struct Generation {
    /// When the first of them came.
    since: Instant,
    ids: HashSet<IdHash>,
    /// The highest number of each author.
    highest: HashMap<IdHash, u64>,
}

/// The messages of the last two minutes, and what is known of older ones.
#[derive(Debug)]
pub(super) struct Seen {
    /// The newest last.
    generations: VecDeque<Generation>,
    count: usize,
    max: usize,
    authors: Authors,
}

impl Default for Seen {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Seen {
    /// For a process that may use so many bytes of memory; 0 stands for an unknown number.
    pub(super) fn of(memory: u64) -> Self {
        let share = match memory {
            0 => usize::MAX,
            memory => usize::try_from(memory / SHARE).unwrap_or(usize::MAX),
        };
        Self {
            generations: VecDeque::new(),
            count: 0,
            max: share.min(MAX_SEEN),
            authors: Authors::default(),
        }
    }

    pub(super) fn contains(&self, id: IdHash) -> bool {
        let mut generations = self.generations.iter().rev();
        generations.any(|generation| generation.ids.contains(&id))
    }

    /// Whether a message is older than one of its author's that was forgotten.
    pub(super) fn is_old(&self, origin: &Sequence) -> bool {
        self.authors.is_old(origin)
    }

    /// Takes note of a message. False if it was seen before. Without an origin, nothing is known of
    /// it once it is forgotten.
    pub(super) fn insert(&mut self, id: IdHash, origin: Option<Sequence>, now: Instant) -> bool {
        if self.contains(id) {
            return false;
        }
        self.expire(now);
        if self.count >= self.max {
            Limit::PubsubSeen.hit();
            self.forget_oldest();
        }
        let full = self.max / GENERATIONS;
        let fresh = |generation: &Generation| {
            now.duration_since(generation.since) < GENERATION && generation.ids.len() < full
        };
        if !self.generations.back().is_some_and(fresh) {
            self.generations.push_back(Generation {
                since: now,
                ids: HashSet::new(),
                highest: HashMap::new(),
            });
        }
        let Some(generation) = self.generations.back_mut() else {
            return true;
        };
        generation.ids.insert(id);
        self.count += 1;
        if let Some(Sequence { author, number }) = origin {
            let known = generation.highest.len();
            if known < MAX_AUTHORS || generation.highest.contains_key(&author) {
                let highest = generation.highest.entry(author).or_insert(number);
                *highest = (*highest).max(number);
            }
        }
        if let Some(origin) = &origin {
            self.authors.received(origin);
        }
        true
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let old =
            |generation: &Generation| now.duration_since(generation.since) >= MEMORY + GENERATION;
        while self.generations.front().is_some_and(old) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(generation) = self.generations.pop_front() {
            self.count -= generation.ids.len();
            for (author, highest) in generation.highest {
                self.authors.forgotten(author, highest);
            }
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
            assert!(seen.insert(id(second), None, now));
            assert!(!seen.insert(id(second.saturating_sub(119)), None, now));
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
        for number in 0..MAX_SEEN + MAX_SEEN / GENERATIONS {
            assert!(seen.insert(id(number), None, now));
            assert!(seen.count <= MAX_SEEN);
        }
        assert!(!seen.contains(id(0)));
        assert!(seen.contains(id(MAX_SEEN / GENERATIONS)));
        assert!(seen.contains(id(MAX_SEEN + MAX_SEEN / GENERATIONS - 1)));
    }

    #[test]
    fn little_memory_remembers_less() {
        let memory = 64 << 20;
        let mut seen = Seen::of(memory);
        let now = Instant::now();
        for number in 0..200_000 {
            assert!(seen.insert(id(number), None, now));
            let slots = seen.generations.iter().map(|one| one.ids.capacity());
            // A place takes 16 bytes and one for its state.
            let bytes = slots.sum::<usize>() * 17;
            assert!(bytes as u64 <= memory / 16, "{bytes} bytes");
        }
        assert!(seen.contains(id(199_999)) && !seen.contains(id(0)));
        assert!(seen.count > 90_000, "{}", seen.count);
    }

    /// A message of `author`, the `number`th since its start.
    fn message(author: usize, number: u64) -> (IdHash, Option<Sequence>) {
        let number = 1_790_000_000_000_000_000 + number;
        let name = [&author.to_be_bytes()[..], &number.to_be_bytes()].concat();
        let author = id(author);
        (IdHash::of(&name), Some(Sequence { author, number }))
    }

    #[test]
    fn a_message_that_is_replayed_after_it_was_forgotten_is_old() {
        let mut seen = Seen::default();
        let start = Instant::now();
        let old = |seen: &Seen, number| seen.is_old(&message(1, number).1.expect("one"));
        for number in [3, 1, 2] {
            let (id, origin) = message(1, number);
            assert!(seen.insert(id, origin, start), "in any order");
        }
        let later = start + Duration::from_secs(136);
        let (id, origin) = message(1, 10);
        assert!(seen.insert(id, origin, later));
        assert!(!seen.contains(message(1, 3).0), "forgotten");
        assert!((0..=3).all(|number| old(&seen, number)));
        // What came meanwhile may still be overtaken.
        assert!((4..12).all(|number| !old(&seen, number)));
        assert!(
            !seen.is_old(&message(2, 1).1.expect("one")),
            "another author's"
        );
    }

    #[test]
    fn what_is_forgotten_early_is_old_as_well() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for number in 0..(MAX_SEEN + 1) as u64 {
            let (id, origin) = message(1, number);
            assert!(seen.insert(id, origin, now));
        }
        let (id, origin) = message(1, 0);
        assert!(!seen.contains(id) && seen.is_old(&origin.expect("one")));
    }

    #[test]
    fn authors_without_end_are_bounded() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for author in 0..2 * MAX_AUTHORS {
            let (id, origin) = message(author, 0);
            assert!(seen.insert(id, origin, now));
        }
        assert_eq!(seen.generations[0].highest.len(), MAX_AUTHORS);
    }
}
