//! The routing table: DHT servers near and far.
//!
//! Old and alive beats new. A newcomer is unverified until it has answered a request of ours, and
//! a full bucket loses an entry only if that has not answered a ping, or if its network has more
//! than its share of the bucket. Whoever decides is [`super::admission`].

mod group;

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::key::Key;
pub(super) use group::Group;

use crate::fixed_limits::fixed_limit;

/// Peers per bucket, and peers that answer for a key (Kademlia's k).
pub(super) const K: usize = 20;
fixed_limit!("DHT: peers in one bucket of the routing table", K);

/// One bucket for every number of leading bits that a peer can share with this daemon.
const BUCKETS: usize = 257;

/// Peers of one network in a bucket (SECURITY.md 3), half of it, where the table knows others as well. There
/// is no such bound for the whole table: the peers that are nearest to this daemon must find room
/// whatever their network is, or lookups end too early.
const MAX_PER_GROUP: usize = 10;
fixed_limit!("DHT: of them in one public network", MAX_PER_GROUP);

/// Peers of one network in a full bucket (SECURITY.md 3) that do not give way to those of others
/// (go-libp2p-kad-dht's `maxPrefixCountPerCpl`).
const GROUP_SHARE: usize = 2;
fixed_limit!("DHT: of them kept against other networks", GROUP_SHARE);

/// Silence after which an entry has to answer a ping to keep its place, without a connection.
const SILENCE: Duration = Duration::from_secs(10);

/// The same, with a connection.
const CONNECTED_SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Entry {
    peer: PeerId,
    key: Key,
    group: Option<Group>,
    /// When it was admitted or last answered.
    seen: Instant,
    /// Whether it has answered a request of ours.
    verified: bool,
}

impl Entry {
    /// Whether it has to answer a ping to keep its place.
    fn is_due(&self, now: Instant, connected: bool) -> bool {
        let silence = if connected {
            CONNECTED_SILENCE
        } else {
            SILENCE
        };
        self.verified && now.saturating_duration_since(self.seen) >= silence
    }
}

/// What has become of a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is in the table, and was verified before.
    Known,
    /// It is in the table now, or has become verified, perhaps instead of another.
    New(Option<PeerId>),
    /// This entry has to answer or gives way, once the newcomer has answered.
    Challenge(PeerId),
    /// There is no room for it at the moment.
    Full,
}

/// Known DHT servers, at most [`K`] in each of 257 buckets. Those of a bucket are in the order
/// of their admission.
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

    /// Takes in a peer that has answered nothing yet, where there is room: a free place, or that
    /// of another unverified one which `connected` denies. [`Admission::Challenge`] where it is
    /// worth to ask it.
    pub(super) fn offer(
        &mut self,
        peer: PeerId,
        group: Option<Group>,
        connected: impl Fn(&PeerId) -> bool,
    ) -> Admission {
        self.place(peer, group, false, Instant::now(), connected)
    }

    /// Takes in a peer that has answered. In a full bucket one of a network with more than its
    /// share gives way. Otherwise the entry that has been silent for longest is challenged.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        group: Option<Group>,
        now: Instant,
        connected: impl Fn(&PeerId) -> bool,
    ) -> Admission {
        self.place(peer, group, true, now, connected)
    }

    fn place(
        &mut self,
        peer: PeerId,
        group: Option<Group>,
        verified: bool,
        now: Instant,
        connected: impl Fn(&PeerId) -> bool,
    ) -> Admission {
        let key = Key::of(&peer.to_bytes());
        let elsewhere = self.entries().any(|entry| entry.group != group);
        let bucket = self.bucket(&key);
        if let Some(entry) = bucket.iter_mut().find(|entry| entry.peer == peer) {
            entry.group = group.or(entry.group);
            let was_verified = entry.verified;
            if verified {
                entry.verified = true;
                entry.seen = now;
            }
            return if was_verified {
                Admission::Known
            } else {
                Admission::New(None)
            };
        }
        let entry = Entry {
            peer,
            key,
            group,
            seen: now,
            verified,
        };
        let crowded = elsewhere && group.is_some() && count(bucket, group) >= MAX_PER_GROUP;
        if !crowded && bucket.len() < K {
            bucket.push(entry);
            return Admission::New(None);
        }
        let rival = |other: &Entry| !crowded || other.group == group;
        let gone = |other: &Entry| rival(other) && !other.verified && !connected(&other.peer);
        if let Some(index) = bucket.iter().position(gone) {
            return Admission::New(Some(replace(bucket, index, entry)));
        }
        if !crowded && let Some(index) = newest_of_crowd(bucket, group) {
            return if verified {
                Admission::New(Some(replace(bucket, index, entry)))
            } else {
                Admission::Challenge(bucket[index].peer)
            };
        }
        bucket
            .iter()
            .filter(|other| rival(other) && other.is_due(now, connected(&other.peer)))
            .min_by_key(|other| other.seen)
            .map_or(Admission::Full, |silent| Admission::Challenge(silent.peer))
    }

    /// How many leading bits a peer of the table that has answered shares with this daemon.
    pub(super) fn common_prefix_len(&self, peer: &PeerId) -> Option<usize> {
        let key = Key::of(&peer.to_bytes());
        let bits = self.own.distance(&key).common_prefix_len();
        let known = |entry: &Entry| entry.peer == *peer && entry.verified;
        self.buckets[bits].iter().any(known).then_some(bits)
    }

    /// The peer has answered.
    pub(super) fn answered(&mut self, peer: &PeerId) {
        let key = Key::of(&peer.to_bytes());
        let bucket = self.bucket(&key);
        if let Some(entry) = bucket.iter_mut().find(|entry| entry.peer == *peer) {
            entry.seen = Instant::now();
            entry.verified = true;
        }
    }

    /// The peer has failed, or serves no longer. False if it was not there.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        self.remove_if(peer, |_| true)
    }

    /// The peer has not answered its first request. False if it is not there, or has answered
    /// another.
    pub(super) fn remove_unverified(&mut self, peer: &PeerId) -> bool {
        self.remove_if(peer, |entry| !entry.verified)
    }

    fn remove_if(&mut self, peer: &PeerId, applies: impl Fn(&Entry) -> bool) -> bool {
        let key = Key::of(&peer.to_bytes());
        let bucket = self.bucket(&key);
        let before = bucket.len();
        bucket.retain(|entry| entry.peer != *peer || !applies(entry));
        bucket.len() < before
    }

    /// The `count` peers closest to `key`, the closest first.
    pub(super) fn closest(&self, key: &Key, count: usize) -> Vec<PeerId> {
        closest(self.entries(), key, count)
    }

    /// The same of those that have answered, for others to ask.
    pub(super) fn closest_verified(&self, key: &Key, count: usize) -> Vec<PeerId> {
        closest(self.entries().filter(|entry| entry.verified), key, count)
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

    /// Every peer that has answered.
    pub(super) fn verified(&self) -> Vec<PeerId> {
        let verified = self.entries().filter(|entry| entry.verified);
        verified.map(|entry| entry.peer).collect()
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

fn closest<'a>(entries: impl Iterator<Item = &'a Entry>, key: &Key, count: usize) -> Vec<PeerId> {
    let mut all: Vec<_> = entries
        .map(|entry| (entry.key.distance(key), &entry.peer))
        .collect();
    if count < all.len() {
        all.select_nth_unstable_by_key(count, |(distance, _)| *distance);
        all.truncate(count);
    }
    all.sort_unstable_by_key(|(distance, _)| *distance);
    all.into_iter().map(|(_, peer)| *peer).collect()
}

fn count(bucket: &[Entry], group: Option<Group>) -> usize {
    bucket.iter().filter(|entry| entry.group == group).count()
}

/// Puts `entry` in the place of another, which is returned.
fn replace(bucket: &mut Vec<Entry>, index: usize, entry: Entry) -> PeerId {
    let gone = bucket.remove(index).peer;
    bucket.push(entry);
    gone
}

/// Of the network that has most of a full bucket, and more than its share, the entry admitted
/// last. None if the newcomer's own network has its share.
fn newest_of_crowd(bucket: &[Entry], newcomer: Option<Group>) -> Option<usize> {
    if newcomer.is_some() && count(bucket, newcomer) >= GROUP_SHARE {
        return None;
    }
    let crowds = bucket.iter().filter_map(|entry| entry.group);
    let (size, crowd) = crowds
        .map(|group| (count(bucket, Some(group)), group))
        .max_by_key(|(size, _)| *size)?;
    let newest = || bucket.iter().rposition(|entry| entry.group == Some(crowd));
    (size > GROUP_SHARE).then(newest).flatten()
}

#[cfg(test)]
mod tests;
