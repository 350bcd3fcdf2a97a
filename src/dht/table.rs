//! The routing table: DHT servers near and far.

use std::time::Instant;

use libp2p::PeerId;

use super::key::Key;

/// Peers per bucket, and peers that answer for a key (Kademlia's k).
pub(super) const K: usize = 20;

/// One bucket for every number of leading bits that a peer can share with this daemon.
const BUCKETS: usize = 257;

#[derive(Debug)]
struct Entry {
    peer: PeerId,
    key: Key,
    /// When it was admitted or last answered.
    seen: Instant,
}

/// Whether a peer is in the table now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It was before.
    Known,
    /// It is, perhaps instead of another.
    New(Option<PeerId>),
    /// Its bucket is full of better ones.
    Full,
}

/// Known DHT servers, at most [`K`] in each of 257 buckets.
#[derive(Debug)]
pub(super) struct Table {
    own: Key,
    buckets: Vec<Vec<Entry>>,
}

impl Table {
    pub(super) fn new(own: PeerId) -> Self {
        Self {
            own: Key::of(&own.to_bytes()),
            buckets: std::iter::repeat_with(Vec::new).take(BUCKETS).collect(),
        }
    }

    fn bucket(&mut self, key: &Key) -> &mut Vec<Entry> {
        let index = self.own.distance(key).common_prefix_len();
        &mut self.buckets[index]
    }

    /// Admits a peer. In a full bucket it takes the place of the one that has been silent for
    /// longest among those that `connected` denies; if there is none, it is not admitted.
    pub(super) fn admit(&mut self, peer: PeerId, connected: impl Fn(&PeerId) -> bool) -> Admission {
        let key = Key::of(&peer.to_bytes());
        let seen = Instant::now();
        let bucket = self.bucket(&key);
        if let Some(entry) = bucket.iter_mut().find(|entry| entry.peer == peer) {
            entry.seen = seen;
            return Admission::Known;
        }
        let mut replaced = None;
        if bucket.len() >= K {
            let stale = bucket
                .iter()
                .enumerate()
                .filter(|(_, entry)| !connected(&entry.peer))
                .min_by_key(|(_, entry)| entry.seen)
                .map(|(index, _)| index);
            let Some(index) = stale else {
                return Admission::Full;
            };
            replaced = Some(bucket.swap_remove(index).peer);
        }
        bucket.push(Entry { peer, key, seen });
        Admission::New(replaced)
    }

    /// How many leading bits a peer of the table shares with this daemon.
    pub(super) fn common_prefix_len(&self, peer: &PeerId) -> Option<usize> {
        let key = Key::of(&peer.to_bytes());
        let bits = self.own.distance(&key).common_prefix_len();
        let known = self.buckets[bits].iter().any(|entry| entry.peer == *peer);
        known.then_some(bits)
    }

    /// The peer has answered.
    pub(super) fn answered(&mut self, peer: &PeerId) {
        let key = Key::of(&peer.to_bytes());
        let bucket = self.bucket(&key);
        if let Some(entry) = bucket.iter_mut().find(|entry| entry.peer == *peer) {
            entry.seen = Instant::now();
        }
    }

    /// The peer has failed, or serves no longer. False if it was not there.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        let key = Key::of(&peer.to_bytes());
        let bucket = self.bucket(&key);
        let before = bucket.len();
        bucket.retain(|entry| entry.peer != *peer);
        bucket.len() < before
    }

    /// The `count` peers closest to `key`, the closest first.
    pub(super) fn closest(&self, key: &Key, count: usize) -> Vec<PeerId> {
        let mut all: Vec<_> = self
            .entries()
            .map(|entry| (entry.key.distance(key), &entry.peer))
            .collect();
        if count < all.len() {
            all.select_nth_unstable_by_key(count, |(distance, _)| *distance);
            all.truncate(count);
        }
        all.sort_unstable_by_key(|(distance, _)| *distance);
        all.into_iter().map(|(_, peer)| *peer).collect()
    }

    /// Peers that have not answered since `since`.
    pub(super) fn silent(&self, since: Instant) -> Vec<PeerId> {
        self.entries()
            .filter(|entry| entry.seen < since)
            .map(|entry| entry.peer)
            .collect()
    }

    /// Whether it holds nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.entries().next().is_none()
    }

    /// Every peer.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.entries().map(|entry| entry.peer).collect()
    }

    /// Peers per bucket, for buckets that are not empty: leading bits shared, and who.
    pub(super) fn by_bucket(&self) -> impl Iterator<Item = (usize, Vec<PeerId>)> {
        self.buckets
            .iter()
            .enumerate()
            .filter(|(_, bucket)| !bucket.is_empty())
            .map(|(bits, bucket)| (bits, bucket.iter().map(|entry| entry.peer).collect()))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> (Table, Vec<PeerId>) {
        let mut table = Table::new(PeerId::random());
        let peers: Vec<PeerId> = (0..2000)
            .map(|_| PeerId::random())
            .filter(|peer| table.admit(*peer, |_| true) == Admission::New(None))
            .collect();
        (table, peers)
    }

    #[test]
    fn buckets_hold_twenty() {
        let (table, peers) = full();
        let sizes: Vec<usize> = table.by_bucket().map(|(_, peers)| peers.len()).collect();
        assert_eq!(sizes.iter().max(), Some(&K));
        assert_eq!(sizes.iter().sum::<usize>(), peers.len());
        assert!(peers.len() < 400, "{}", peers.len());
    }

    #[test]
    fn the_closest_are_those_of_the_whole_table() {
        let (table, mut peers) = full();
        for _ in 0..100 {
            let target = Key::of(&PeerId::random().to_bytes());
            peers.sort_by_key(|peer| Key::of(&peer.to_bytes()).distance(&target));
            assert_eq!(table.closest(&target, K), peers[..K]);
            assert_eq!(table.closest(&target, 1), peers[..1]);
        }
        let all = table.closest(&Key::of(b"all"), usize::MAX);
        assert_eq!(all.len(), peers.len());
    }

    #[test]
    fn only_those_who_left_make_room() {
        let (mut table, peers) = full();
        let (_, bucket) = table.by_bucket().next().expect("peers");
        let gone = bucket[3];
        let newcomer = std::iter::repeat_with(PeerId::random)
            .find(|peer| {
                let key = Key::of(&peer.to_bytes());
                table.own.distance(&key).common_prefix_len() == 0
            })
            .expect("endless");
        assert_eq!(table.admit(newcomer, |_| true), Admission::Full);
        let admitted = table.admit(newcomer, |peer| *peer != gone);
        assert_eq!(admitted, Admission::New(Some(gone)));
        assert_eq!(table.admit(newcomer, |_| true), Admission::Known);
        let now = table.peers();
        assert!(now.contains(&newcomer) && !now.contains(&gone));
        assert_eq!(now.len(), peers.len());
        assert!(table.remove(&newcomer) && !table.remove(&newcomer));
        assert_eq!(table.peers().len(), peers.len() - 1);
    }
}
