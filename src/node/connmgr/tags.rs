//! The tags that clients, and the daemon itself, gave to peers.

use std::collections::{BTreeMap, HashMap};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::{fixed_limits::fixed_limit, limit_hits::Limit};

/// Tags of one peer (SECURITY.md 3).
const MAX_TAGS: usize = 64;
fixed_limit!("tags of one peer", MAX_TAGS);

/// Longest tag, in bytes.
const MAX_TAG: usize = 256;
fixed_limit!("tag", bytes MAX_TAG);

/// Peers that have tags; of those without a connection the first tagged goes.
const MAX_TAGGED: usize = 8192;
fixed_limit!("peers that have tags", MAX_TAGGED);

/// Bytes of all tags, each with what it takes beside its own (SECURITY.md 3). They outlive the client
/// that gave them, so no client is charged for them.
const MAX_BYTES: usize = 4 << 20;
fixed_limit!("all tags", bytes MAX_BYTES);

/// Bytes that a tag takes beside its own.
const TAG: usize = 64;

/// Why a peer was not tagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagError {
    /// The tag is longer than the limit in bytes.
    TooLong(usize),
    /// The peer has as many tags as it may have, or all peers together have.
    TooMany,
}

#[derive(Debug)]
struct Tagged {
    since: Instant,
    tags: BTreeMap<Box<[u8]>, i64>,
}

impl Tagged {
    fn bytes(&self) -> usize {
        self.tags.keys().map(|tag| tag.len() + TAG).sum()
    }
}

/// The tags of all peers.
#[derive(Debug, Default)]
pub(super) struct Tags {
    peers: HashMap<PeerId, Tagged>,
    bytes: usize,
}

impl Tags {
    /// Every tagged peer with its tags and their weights.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &BTreeMap<Box<[u8]>, i64>)> {
        self.peers.iter().map(|(peer, tagged)| (peer, &tagged.tags))
    }

    /// The sum of the peer's tags.
    pub(super) fn value(&self, peer: &PeerId) -> i64 {
        let tags = self.peers.get(peer).map(|tagged| tagged.tags.values());
        tags.into_iter()
            .flatten()
            .fold(0, |sum, weight| sum.saturating_add(*weight))
    }

    /// Removes all tags of the peer.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some(tagged) = self.peers.remove(peer) {
            self.bytes = self.bytes.saturating_sub(tagged.bytes());
        }
    }

    /// Gives `peer` a tag of this weight, or changes the weight of the one it has.
    ///
    /// # Errors
    /// See [`TagError`].
    pub(super) fn set(
        &mut self,
        peer: PeerId,
        tag: &[u8],
        weight: i64,
        is_connected: impl Fn(&PeerId) -> bool,
    ) -> Result<(), TagError> {
        if tag.len() > MAX_TAG {
            return Err(TagError::TooLong(MAX_TAG));
        }
        let known = self.peers.get_mut(&peer);
        let count = known.as_ref().map_or(0, |tagged| tagged.tags.len());
        if let Some(held) = known.and_then(|tagged| tagged.tags.get_mut(tag)) {
            *held = weight;
            return Ok(());
        }
        let more = tag.len() + TAG;
        if count >= MAX_TAGS || !self.make_room(&peer, more, is_connected) {
            Limit::Tags.hit();
            return Err(TagError::TooMany);
        }
        let tagged = self.peers.entry(peer).or_insert_with(|| Tagged {
            since: Instant::now(),
            tags: BTreeMap::new(),
        });
        tagged.tags.insert(tag.into(), weight);
        self.bytes += more;
        Ok(())
    }

    /// Makes room for so many more bytes of tags of `peer`; false if only connected peers are left.
    fn make_room(
        &mut self,
        peer: &PeerId,
        more: usize,
        is_connected: impl Fn(&PeerId) -> bool,
    ) -> bool {
        let fits = |tags: &Self| {
            let counts = tags.peers.len() < MAX_TAGGED || tags.peers.contains_key(peer);
            counts && tags.bytes + more <= MAX_BYTES
        };
        while !fits(self) {
            let others = self.peers.iter();
            let others = others.filter(|(other, _)| *other != peer && !is_connected(other));
            let first = others.min_by_key(|(_, tagged)| tagged.since);
            let Some(first) = first.map(|(other, _)| *other) else {
                return false;
            };
            self.forget(&first);
        }
        true
    }

    /// Takes a tag from `peer`, if it has it.
    pub(super) fn unset(&mut self, peer: &PeerId, tag: &[u8]) {
        let Some(tagged) = self.peers.get_mut(peer) else {
            return;
        };
        if tagged.tags.remove(tag).is_some() {
            self.bytes = self.bytes.saturating_sub(tag.len() + TAG);
        }
        if tagged.tags.is_empty() {
            self.peers.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag of the largest size, another for each number.
    fn large(number: usize) -> Vec<u8> {
        format!("{number:0>MAX_TAG$}").into_bytes()
    }

    #[test]
    fn bytes_have_a_bound_and_the_first_tagged_go() {
        let mut tags = Tags::default();
        let peers: Vec<PeerId> = (0..400).map(|_| PeerId::random()).collect();
        for peer in &peers {
            for number in 0..MAX_TAGS {
                assert_eq!(tags.set(*peer, &large(number), 1, |_| false), Ok(()));
            }
            assert!(tags.bytes <= MAX_BYTES);
        }
        assert_eq!((tags.value(&peers[0]), tags.value(&peers[399])), (0, 64));
        let sum: usize = tags.peers.values().map(Tagged::bytes).sum();
        assert_eq!(sum, tags.bytes);
        // Connected ones stay: there is no room then.
        let another = PeerId::random();
        let refused = (0..MAX_TAGS).find_map(|n| tags.set(another, &large(n), 1, |_| true).err());
        assert_eq!(refused, Some(TagError::TooMany));
        // What is there changes its weight all the same.
        assert_eq!(tags.set(peers[399], &large(0), 7, |_| true), Ok(()));
        assert_eq!(tags.value(&peers[399]), 70);
        peers.iter().for_each(|peer| tags.forget(peer));
        tags.forget(&another);
        assert_eq!((tags.bytes, tags.peers.len()), (0, 0));
    }

    #[test]
    fn one_peer_has_so_many() {
        let mut tags = Tags::default();
        let peer = PeerId::random();
        for number in 0..MAX_TAGS {
            assert_eq!(tags.set(peer, &large(number), 1, |_| true), Ok(()));
        }
        assert_eq!(
            tags.set(peer, b"one more", 1, |_| true),
            Err(TagError::TooMany)
        );
        tags.unset(&peer, &large(0));
        assert_eq!(tags.set(peer, b"one more", 1, |_| true), Ok(()));
        let long = vec![b'x'; MAX_TAG + 1];
        assert_eq!(
            tags.set(peer, &long, 1, |_| true),
            Err(TagError::TooLong(MAX_TAG))
        );
    }
}
