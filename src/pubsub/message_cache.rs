//! Messages of the last heartbeats, for peers that missed them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::{message::Message, seen::IdHash};

/// Heartbeats for which a message is held (gossipsub's default).
const HEARTBEATS: u64 = 5;

/// Heartbeats for which peers are told of it (gossipsub's default).
const GOSSIP: u64 = 3;

/// Bytes of all of them (SECURITY.md 3); beyond, the oldest go.
const MAX_BYTES: usize = 8 << 20;

/// What holding a message costs beside the message.
const OVERHEAD: usize = 256;

/// How long ago a message may be that a new subscriber gets (COMPATIBILITY.md 4.25).
const RECENT: Duration = Duration::from_secs(1);

/// How often one peer gets the same message for asking (gossipsub's default).
const MAX_RETRANSMISSIONS: u8 = 3;

/// Messages that peers have asked for within a heartbeat (SECURITY.md 3); further ones are not
/// sent.
const MAX_REQUESTS: usize = 1 << 16;

#[derive(Debug)]
struct Held {
    message: Arc<Message>,
    /// Who passed it on.
    source: Option<PeerId>,
    at: Instant,
    heartbeat: u64,
}

impl Held {
    fn size(&self) -> usize {
        self.message.size() + OVERHEAD
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MessageCache {
    /// Oldest first.
    order: VecDeque<Held>,
    by_id: HashMap<IdHash, Arc<Message>>,
    /// How many there are of each topic.
    topics: HashMap<Arc<str>, usize>,
    /// How often peers have asked, in this heartbeat and the one before.
    iwants: [HashMap<(PeerId, IdHash), u8>; 2],
    bytes: usize,
    heartbeat: u64,
}

impl MessageCache {
    pub(super) fn add(&mut self, message: Arc<Message>, source: Option<PeerId>, now: Instant) {
        self.by_id.insert(message.id_hash(), message.clone());
        *self.topics.entry(message.topic().clone()).or_default() += 1;
        let held = Held {
            message,
            source,
            at: now,
            heartbeat: self.heartbeat,
        };
        self.bytes += held.size();
        self.order.push_back(held);
        while self.bytes > MAX_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(held) = self.order.pop_front() {
            self.bytes -= held.size();
            self.by_id.remove(&held.message.id_hash());
            let topic = held.message.topic();
            if let Some(count) = self.topics.get_mut(topic) {
                *count -= 1;
                if *count == 0 {
                    self.topics.remove(topic);
                }
            }
        }
    }

    /// A heartbeat has passed.
    pub(super) fn shift(&mut self) {
        self.heartbeat += 1;
        while let Some(held) = self.order.front()
            && self.heartbeat - held.heartbeat >= HEARTBEATS
        {
            self.forget_oldest();
        }
        self.iwants.swap(0, 1);
        self.iwants[0] = HashMap::new();
    }

    /// The message with this id, for a peer that asks for it; not without end.
    pub(super) fn iwant(&mut self, id: IdHash, peer: PeerId) -> Option<Arc<Message>> {
        let message = self.by_id.get(&id)?;
        let before = self.iwants[1].get(&(peer, id)).copied().unwrap_or(0);
        if self.iwants[0].len() >= MAX_REQUESTS {
            return None;
        }
        let count = self.iwants[0].entry((peer, id)).or_insert(before);
        *count += 1;
        (*count <= MAX_RETRANSMISSIONS).then(|| message.clone())
    }

    /// Names of the messages that peers are told of, by topic.
    pub(super) fn gossip(&self) -> HashMap<&str, Vec<&[u8]>> {
        let mut names: HashMap<&str, Vec<&[u8]>> = HashMap::new();
        let recent = self.order.iter().rev();
        for held in recent.take_while(|held| self.heartbeat - held.heartbeat < GOSSIP) {
            let topic = names.entry(held.message.topic()).or_default();
            topic.push(held.message.message_id());
        }
        names
    }

    /// Whether there are messages on `topic`.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Messages on `topic` of the last second that `peer` neither made nor passed on.
    pub(super) fn recent(&self, topic: &str, peer: &PeerId, now: Instant) -> Vec<Arc<Message>> {
        let mut messages: Vec<_> = self
            .order
            .iter()
            .rev()
            .take_while(|held| now.duration_since(held.at) < RECENT)
            .filter(|held| **held.message.topic() == *topic)
            .filter(|held| held.message.author() != Some(*peer) && held.source != Some(*peer))
            .map(|held| held.message.clone())
            .collect();
        messages.reverse();
        messages
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::{super::message::Author, *};

    struct Scene {
        author: Author,
        mcache: MessageCache,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let author = Author::new(&Keypair::generate_ed25519(), false).expect("a key");
            Self {
                author,
                mcache: MessageCache::default(),
                now: Instant::now(),
            }
        }

        fn add(&mut self, topic: &str, len: usize, source: Option<PeerId>) -> IdHash {
            let seqno = self.mcache.order.len() as u64 + self.mcache.heartbeat * 1000;
            let message = self
                .author
                .message(&topic.into(), Some(&vec![0; len]), seqno);
            let message = Arc::new(message.expect("a message"));
            let id = message.id_hash();
            self.mcache.add(message, source, self.now);
            id
        }
    }

    #[test]
    fn messages_are_held_for_five_heartbeats_and_told_for_three() {
        let mut scene = Scene::new();
        let id = scene.add("t", 1, None);
        for heartbeat in 0..7 {
            let told = scene.mcache.gossip().contains_key("t");
            assert_eq!(told, heartbeat < 3, "{heartbeat}");
            let held = scene.mcache.iwant(id, PeerId::random()).is_some();
            assert_eq!(held, heartbeat < 5, "{heartbeat}");
            scene.mcache.shift();
        }
        assert_eq!((scene.mcache.bytes, scene.mcache.by_id.len()), (0, 0));
        assert!(!scene.mcache.has("t") && scene.mcache.topics.is_empty());
    }

    #[test]
    fn there_is_a_bound_in_bytes_and_the_oldest_go_first() {
        let mut scene = Scene::new();
        let ids: Vec<_> = (0..100).map(|_| scene.add("t", 1 << 17, None)).collect();
        assert!(scene.mcache.bytes <= MAX_BYTES);
        let peer = PeerId::random();
        assert!(scene.mcache.iwant(ids[0], peer).is_none());
        assert!(scene.mcache.iwant(ids[99], peer).is_some());
    }

    #[test]
    fn one_peer_gets_a_message_three_times() {
        let mut scene = Scene::new();
        let id = scene.add("t", 1, None);
        let peer = PeerId::random();
        let got = (0..10).filter(|_| scene.mcache.iwant(id, peer).is_some());
        assert_eq!(got.count(), 3);
        scene.mcache.shift();
        assert!(scene.mcache.iwant(id, peer).is_none());
        assert!(scene.mcache.iwant(id, PeerId::random()).is_some());
    }

    #[test]
    fn who_has_a_message_does_not_get_it_and_old_ones_nobody() {
        let mut scene = Scene::new();
        let (source, stranger) = (PeerId::random(), PeerId::random());
        scene.add("t", 1, Some(source));
        scene.add("u", 1, None);
        let own = scene.author.peer;
        let recent = |peer, age| {
            let now = scene.now + Duration::from_millis(age);
            scene.mcache.recent("t", &peer, now).len()
        };
        assert_eq!((recent(stranger, 0), recent(stranger, 1000)), (1, 0));
        assert_eq!((recent(source, 0), recent(own, 0)), (0, 0));
    }
}
