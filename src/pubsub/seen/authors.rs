//! Numbers of authors, so that what is forgotten as a message is still known as old.
//!
//! go-libp2p-pubsub's `BasicSeqnoValidator` rejects every number that is not above the highest one
//! of its author. It loses messages that overtake each other, and every second message of authors
//! whose numbers are random, as those of js-libp2p are. Here only the numbers of messages that have
//! been forgotten count, and only of authors whose numbers come from a clock: Go's, Rust's and this
//! daemon's begin at the nanoseconds of their start.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::IdHash;

use crate::fixed_limits::fixed_limit;

/// Authors remembered (SECURITY.md 3) before the least recent half of them is forgotten.
const MAX_AUTHORS: usize = 1 << 16;
fixed_limit!(
    "pubsub: authors whose highest number is remembered",
    MAX_AUTHORS
);

/// No clock is earlier than 2020.
const EARLIEST: Duration = Duration::from_secs(1_577_836_800);

/// How far the clock of an author may be ahead.
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Who made a message, and the author's number for it. Both are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Sequence {
    pub(in super::super) author: IdHash,
    pub(in super::super) number: u64,
}

impl Sequence {
    /// Whether the number may come from a clock. One random number in a hundred looks so.
    pub(super) fn is_from_clock(&self) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        (nanos(EARLIEST)..nanos(now + SKEW)).contains(&self.number)
    }
}

#[derive(Debug, Clone, Copy)]
enum Author {
    /// Its numbers come from a clock. The highest one of the messages that were forgotten.
    Clock(u64),
    /// At least one of its numbers does not.
    Other,
}

/// What is known of authors. Of two tables the older one is dropped when the younger one is full.
#[derive(Debug, Default)]
pub(super) struct Authors {
    young: HashMap<IdHash, Author>,
    old: HashMap<IdHash, Author>,
}

impl Authors {
    fn get(&self, author: IdHash) -> Option<Author> {
        self.young.get(&author).or(self.old.get(&author)).copied()
    }

    fn set(&mut self, author: IdHash, known: Author) {
        if self.young.len() >= MAX_AUTHORS / 2 && !self.young.contains_key(&author) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(author, known);
    }

    /// Whether a message is older than one that was forgotten.
    pub(super) fn is_old(&self, origin: &Sequence) -> bool {
        matches!(self.get(origin.author), Some(Author::Clock(highest)) if origin.number <= highest)
            && origin.is_from_clock()
    }

    /// A message of this number has come. Only the author can have signed it.
    pub(super) fn received(&mut self, origin: &Sequence) {
        if !origin.is_from_clock() {
            self.set(origin.author, Author::Other);
        }
    }

    /// The messages of `author` up to the number `highest` are forgotten.
    pub(super) fn forgotten(&mut self, author: IdHash, highest: u64) {
        match self.get(author) {
            Some(Author::Other) => self.set(author, Author::Other),
            Some(Author::Clock(before)) => self.set(author, Author::Clock(before.max(highest))),
            None => self.set(author, Author::Clock(highest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(author: usize, number: u64) -> Sequence {
        Sequence {
            author: IdHash::of(&author.to_be_bytes()),
            number,
        }
    }

    #[test]
    fn random_numbers_are_never_old() {
        let mut authors = Authors::default();
        let clock = 1_790_000_000_000_000_000;
        authors.received(&origin(1, clock));
        authors.forgotten(origin(1, 0).author, clock);
        assert!(authors.is_old(&origin(1, clock)));
        assert!(authors.is_old(&origin(1, clock - 1)));
        assert!(!authors.is_old(&origin(1, clock + 1)) && !authors.is_old(&origin(2, clock)));
        assert!(!authors.is_old(&origin(1, 5)), "that is no clock's");
        authors.received(&origin(1, u64::MAX));
        assert!(!authors.is_old(&origin(1, clock)), "nor is its own");
        authors.forgotten(origin(1, 0).author, clock);
        assert!(!authors.is_old(&origin(1, clock)));
    }

    #[test]
    fn there_is_a_bound_and_the_least_recent_go_first() {
        let mut authors = Authors::default();
        let clock = 1_790_000_000_000_000_000;
        for author in 0..2 * MAX_AUTHORS {
            authors.forgotten(origin(author, 0).author, clock);
            assert!(authors.young.len() + authors.old.len() <= MAX_AUTHORS);
        }
        assert!(!authors.is_old(&origin(0, clock)));
        let latest = 2 * MAX_AUTHORS - MAX_AUTHORS / 2;
        assert!(authors.is_old(&origin(latest, clock)));
    }
}
