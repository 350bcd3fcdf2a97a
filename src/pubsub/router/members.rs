//! Which peers have announced which topics.
//!
//! Peers may announce any number of topics that nobody here takes part in, so an entry is small and
//! charged to its peer before it is made, and nothing here is walked as a whole. Trees are used
//! because they grow without ever being copied, which with hash tables would take milliseconds
//! under the router's lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use libp2p::PeerId;

use crate::{
    events::{Event, Events, Kind},
    fixed_limits::fixed_limit,
    memory::{Account, Charge},
};

/// Topics that one peer may be subscribed to (SECURITY.md 3).
pub(super) const MAX_PEER_TOPICS: usize = 10_000;
fixed_limit!("pubsub: topics of one peer", MAX_PEER_TOPICS);

/// Bytes that the entries of all peers may take (SECURITY.md 3).
const MAX_BYTES: usize = 64 << 20;
fixed_limit!("pubsub: memory charged for the topics of all peers", bytes MAX_BYTES);

/// Topics of a peer that may use the last quarter of those bytes (SECURITY.md 3).
const FAIR_SHARE: usize = 64;
fixed_limit!(
    "pubsub: topics of a peer in the last quarter of that",
    FAIR_SHARE
);

/// Bytes that an entry takes beside the topic's name, if no other peer has the topic. Measured with
/// jemalloc: see `SECURITY.md` 3.
const ENTRY: usize = 160;
fixed_limit!("pubsub: memory charged for a topic of a peer", bytes ENTRY);

/// Entries removed at once when a peer has gone, so that others get the lock in between.
const MAX_REMOVED: usize = 256;

/// The bytes that are charged for one topic of one peer.
fn cost(topic: &[u8]) -> usize {
    ENTRY + topic.len()
}

/// The topics of one peer.
#[derive(Debug)]
pub(super) struct PeerTopics {
    peer: PeerId,
    number: u32,
    names: BTreeSet<Arc<[u8]>>,
    charge: Charge,
}

impl PeerTopics {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.names.iter()
    }

    fn release(&mut self, bytes: usize) {
        let left = self.charge.bytes().saturating_sub(bytes as u64);
        // Less is never refused.
        let _ = self.charge.resize(usize::try_from(left).unwrap_or(0));
    }
}

/// The table of all topics that peers are subscribed to.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// The numbers of a topic's peers, in order.
    topics: BTreeMap<Arc<[u8]>, Vec<u32>>,
    /// Peers by their number, which is shorter than a peer id. Peers that have gone are not here.
    peers: HashMap<u32, PeerId>,
    next: u32,
    bytes: usize,
    /// Topics of peers that have gone, still to be removed.
    gone: Vec<PeerTopics>,
    events: Events,
}

impl Members {
    /// Nobody yet. Who comes and goes is told to `events`.
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            ..Self::default()
        }
    }

    /// A peer without topics, whose future ones are charged to `account`.
    pub(super) fn add_peer(&mut self, peer: PeerId, account: &Arc<Account>) -> PeerTopics {
        while self.peers.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.peers.insert(number, peer);
        PeerTopics {
            peer,
            number,
            names: BTreeSet::new(),
            charge: account.empty_charge(),
        }
    }

    /// Forgets a peer. Its topics are removed, and told of, by [`Members::sweep`].
    pub(super) fn remove_peer(&mut self, topics: PeerTopics) {
        self.peers.remove(&topics.number);
        if !topics.names.is_empty() {
            self.gone.push(topics);
        }
    }

    /// Removes some of the topics of peers that have gone. Returns whether more are left.
    pub(super) fn sweep(&mut self) -> bool {
        let Some(topics) = self.gone.last_mut() else {
            return false;
        };
        let mut removed = Vec::with_capacity(MAX_REMOVED);
        removed.extend(std::iter::from_fn(|| topics.names.pop_first()).take(MAX_REMOVED));
        let (number, peer) = (topics.number, topics.peer);
        topics.release(removed.iter().map(|name| cost(name)).sum());
        if topics.names.is_empty() {
            self.gone.pop();
        }
        for name in removed {
            self.forget(&name, number);
            self.tell_left(peer, name);
        }
        !self.gone.is_empty()
    }

    /// Removes `topic` from what is still there of `peer` before it came back, so that its leaving is
    /// told before it joins again.
    fn settle(&mut self, peer: PeerId, topic: &[u8]) {
        let gone = self.gone.iter_mut().filter(|gone| gone.peer == peer);
        let left: Vec<_> = gone
            .filter_map(|gone| {
                let name = gone.names.take(topic)?;
                gone.release(cost(topic));
                Some((gone.number, name))
            })
            .collect();
        for (number, name) in left {
            self.forget(&name, number);
            self.tell_left(peer, name);
        }
    }

    fn tell_left(&self, peer: PeerId, topic: Arc<[u8]>) {
        self.events.tell(Kind::TopicLeft, || Event::TopicLeft {
            peer: Some(peer),
            topic,
        });
    }

    fn forget(&mut self, topic: &[u8], number: u32) {
        self.bytes -= cost(topic);
        if let Some(numbers) = self.topics.get_mut(topic) {
            if let Ok(at) = numbers.binary_search(&number) {
                numbers.remove(at);
            }
            if numbers.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Adds a topic to those of a peer. False if there is no room for it.
    pub(super) fn subscribe(&mut self, peer: &mut PeerTopics, topic: &[u8]) -> bool {
        if peer.names.contains(topic) {
            return true;
        }
        self.settle(peer.peer, topic);
        let bytes = cost(topic);
        let room = match peer.names.len() {
            ..FAIR_SHARE => MAX_BYTES,
            FAIR_SHARE.. => MAX_BYTES / 4 * 3,
        };
        if peer.names.len() >= MAX_PEER_TOPICS || self.bytes + bytes > room {
            return false;
        }
        let charged = usize::try_from(peer.charge.bytes()).unwrap_or(usize::MAX);
        if peer.charge.resize(charged.saturating_add(bytes)).is_err() {
            return false;
        }
        self.bytes += bytes;
        let known = self.topics.get_key_value(topic);
        let name: Arc<[u8]> = known.map_or_else(|| topic.into(), |(name, _)| name.clone());
        peer.names.insert(name.clone());
        let (id, joined) = (Some(peer.peer), name.clone());
        self.events.tell(Kind::TopicJoined, || Event::TopicJoined {
            peer: id,
            topic: joined,
        });
        let numbers = self
            .topics
            .entry(name)
            .or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = numbers.binary_search(&peer.number) {
            numbers.insert(at, peer.number);
        }
        true
    }

    /// Removes a topic from those of a peer.
    pub(super) fn unsubscribe(&mut self, peer: &mut PeerTopics, topic: &[u8]) {
        if let Some(name) = peer.names.take(topic) {
            self.tell_left(peer.peer, name);
            peer.release(cost(topic));
            self.forget(topic, peer.number);
        }
    }

    /// Whether any peer is subscribed to `topic`.
    pub(super) fn has_topic(&self, topic: &[u8]) -> bool {
        self.topics.contains_key(topic)
    }

    /// Whether the peer with these topics is subscribed to `topic`.
    pub(super) fn contains(&self, topic: &[u8], peer: &PeerTopics) -> bool {
        self.topics
            .get(topic)
            .is_some_and(|numbers| numbers.binary_search(&peer.number).is_ok())
    }

    /// The peers that are subscribed to `topic`.
    pub(super) fn of(&self, topic: &[u8]) -> impl Iterator<Item = PeerId> + '_ {
        let numbers = self.topics.get(topic).map_or(&[][..], Vec::as_slice);
        numbers
            .iter()
            .filter_map(|number| self.peers.get(number).copied())
    }

    /// Topics that peers are subscribed to.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Bytes charged for them.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{Followed, Kinds},
        memory::Ledger,
    };

    /// The sum is larger than three peers may take, if the budget does not bite first.
    fn members(peers: usize) -> (Members, Vec<PeerTopics>) {
        let ledger = Ledger::new(u64::MAX);
        let mut members = Members::default();
        let peers = (0..peers).map(|_| members.add_peer(PeerId::random(), &ledger.client()));
        let peers = peers.collect();
        (members, peers)
    }

    #[test]
    fn those_with_few_topics_have_room_when_others_have_taken_their_share() {
        let (mut members, mut peers) = members(50);
        let name = |peer: usize, topic: usize| format!("{peer:03}-{topic:0200}");
        for (number, peer) in peers.iter_mut().take(40).enumerate() {
            for topic in 0..MAX_PEER_TOPICS {
                if !members.subscribe(peer, name(number, topic).as_bytes()) {
                    break;
                }
            }
        }
        assert!(
            members.bytes <= MAX_BYTES / 4 * 3 + MAX_BYTES / 8,
            "{}",
            members.bytes
        );
        let last = &mut peers[49];
        let given = (0..200).filter(|topic| members.subscribe(last, name(49, *topic).as_bytes()));
        assert_eq!(given.count(), FAIR_SHARE);
    }

    #[test]
    fn the_topics_of_a_peer_that_has_gone_are_removed_in_parts() {
        let (mut members, mut peers) = members(2);
        for topic in 0..2000 {
            assert!(members.subscribe(&mut peers[0], format!("{topic}").as_bytes()));
        }
        assert!(members.subscribe(&mut peers[1], b"7"));
        members.remove_peer(peers.swap_remove(0));
        assert_eq!(members.of(b"7").count(), 1, "only who is there");
        assert_eq!(members.of(b"8").count(), 0);
        let mut parts = 1;
        while members.sweep() {
            parts += 1;
        }
        assert_eq!(parts, 2000_usize.div_ceil(MAX_REMOVED));
        assert_eq!((members.len(), members.bytes), (1, cost(b"7")));
        members.unsubscribe(&mut peers[0], b"7");
        assert_eq!((members.len(), members.bytes), (0, 0));
        assert_eq!(peers[0].charge.bytes(), 0);
    }

    #[test]
    fn who_leaves_with_thousands_of_topics_is_told_of_in_parts_and_before_it_is_back() {
        let events = Events::default();
        let mut members = Members::new(events.clone());
        let (id, ledger) = (PeerId::random(), Ledger::new(u64::MAX));
        let mut peer = members.add_peer(id, &ledger.client());
        for topic in 0..2000 {
            assert!(members.subscribe(&mut peer, format!("{topic:04}").as_bytes()));
        }
        let kinds = Kinds::default()
            .with(Kind::TopicLeft)
            .with(Kind::TopicJoined);
        let mut told = events.follow(kinds);
        members.remove_peer(peer);
        assert!(told.try_next().is_none(), "nothing is told under one lock");
        let mut back = members.add_peer(id, &ledger.client());
        assert!(members.subscribe(&mut back, b"1999"));
        while members.sweep() {}
        let mut names = Vec::new();
        while let Some(Followed::Event(entry)) = told.try_next() {
            names.push(match &entry.event {
                Event::TopicLeft { topic, .. } => (false, topic.to_vec()),
                Event::TopicJoined { topic, .. } => (true, topic.to_vec()),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(names.len(), 2001);
        assert_eq!(names[0], (false, b"1999".to_vec()));
        assert_eq!(names[1], (true, b"1999".to_vec()));
        assert!(
            names[2..]
                .iter()
                .all(|(joined, name)| !joined && name != b"1999")
        );
        assert_eq!(members.of(b"1999").count(), 1);
    }

    #[test]
    fn what_the_account_has_no_room_for_is_not_taken() {
        let ledger = Ledger::new(1 << 20);
        let account = ledger.peer(&"/ip4/192.0.2.1/tcp/1".parse().expect("a multiaddr"));
        let mut members = Members::default();
        let mut peer = members.add_peer(PeerId::random(), &account);
        let given = (0..10_000)
            .filter(|topic| members.subscribe(&mut peer, format!("{topic:05}").as_bytes()));
        let given = given.count();
        assert_eq!(given, (1 << 20) / 4 / 4 / (ENTRY + 5), "its share");
        members.remove_peer(peer);
        while members.sweep() {}
        assert_eq!((ledger.used(), members.bytes), (0, 0));
    }
}
