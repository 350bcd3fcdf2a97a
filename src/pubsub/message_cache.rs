//! Messages of the last heartbeats, for peers that missed them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{message::Message, seen::IdHash};

use crate::fixed_limits::fixed_limit;

/// Heartbeats for which a message is held (gossipsub's default).
const HEARTBEATS: u64 = 5;

/// Heartbeats for which IHAVE names it (gossipsub's default).
const GOSSIP: u64 = 3;

/// Bytes of all of them (SECURITY.md 3). Beyond, the oldest go.
const MAX_BYTES: usize = 8 << 20;
fixed_limit!("pubsub: message cache", bytes MAX_BYTES);

/// What holding a message costs beside the message.
const OVERHEAD: usize = 320;

/// How long ago a message may be that a new subscriber gets (COMPATIBILITY.md 4.25).
const RECENT: Duration = Duration::from_secs(1);

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
    order: VecDeque<Arc<Held>>,
    by_id: HashMap<IdHash, Arc<Message>>,
    /// Those of each topic, oldest first.
    topics: HashMap<Arc<[u8]>, VecDeque<Arc<Held>>>,
    bytes: usize,
    heartbeat: u64,
}

impl MessageCache {
    pub(super) fn add(&mut self, message: Arc<Message>, source: Option<PeerId>, now: Instant) {
        self.by_id.insert(message.id_hash(), message.clone());
        let held = Arc::new(Held {
            message,
            source,
            at: now,
            heartbeat: self.heartbeat,
        });
        self.bytes += held.size();
        let topic = self.topics.entry(held.message.topic().clone());
        topic.or_default().push_back(held.clone());
        self.order.push_back(held);
        while self.bytes > MAX_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(held) = self.order.pop_front() else {
            return;
        };
        self.bytes -= held.size();
        self.by_id.remove(&held.message.id_hash());
        let topic = held.message.topic();
        if let Some(same) = self.topics.get_mut(topic) {
            same.pop_front();
            if same.is_empty() {
                self.topics.remove(topic);
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
    }

    /// The message with this id.
    pub(super) fn get(&self, id: IdHash) -> Option<Arc<Message>> {
        self.by_id.get(&id).cloned()
    }

    /// The ids of the messages that IHAVE names, by topic.
    pub(super) fn gossip(&self) -> HashMap<&[u8], Vec<Bytes>> {
        let mut ids: HashMap<&[u8], Vec<Bytes>> = HashMap::new();
        let recent = self.order.iter().rev();
        for held in recent.take_while(|held| self.heartbeat - held.heartbeat < GOSSIP) {
            let topic = ids.entry(held.message.topic()).or_default();
            topic.push(held.message.message_id().clone());
        }
        ids
    }

    /// The last `count` messages of the last second on `topic` that `peer` neither made nor passed
    /// on. Costs as much as there are of that topic.
    pub(super) fn recent(
        &self,
        topic: &[u8],
        peer: &PeerId,
        now: Instant,
        count: usize,
    ) -> Vec<Arc<Message>> {
        let Some(held) = self.topics.get(topic) else {
            return Vec::new();
        };
        let recent = held.iter().rev().take(count);
        let mut messages: Vec<_> = recent
            .take_while(|held| now.duration_since(held.at) < RECENT)
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

        fn add(&mut self, topic: &[u8], len: usize, source: Option<PeerId>) -> IdHash {
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
        let id = scene.add(b"t", 1, None);
        for heartbeat in 0..7 {
            let told = scene.mcache.gossip().contains_key(&b"t"[..]);
            assert_eq!(told, heartbeat < 3, "{heartbeat}");
            let held = scene.mcache.get(id).is_some();
            assert_eq!(held, heartbeat < 5, "{heartbeat}");
            scene.mcache.shift();
        }
        assert_eq!((scene.mcache.bytes, scene.mcache.by_id.len()), (0, 0));
        assert!(scene.mcache.topics.is_empty());
    }

    #[test]
    fn there_is_a_bound_in_bytes_and_the_oldest_go_first() {
        let mut scene = Scene::new();
        let ids: Vec<_> = (0..100).map(|_| scene.add(b"t", 1 << 17, None)).collect();
        assert!(scene.mcache.bytes <= MAX_BYTES);
        assert!(scene.mcache.get(ids[0]).is_none());
        assert!(scene.mcache.get(ids[99]).is_some());
    }

    #[test]
    fn who_has_a_message_does_not_get_it_and_old_ones_nobody() {
        let mut scene = Scene::new();
        let (source, stranger) = (PeerId::random(), PeerId::random());
        scene.add(b"t", 1, Some(source));
        scene.add(b"u", 1, None);
        let own = scene.author.peer;
        let recent = |peer, age| {
            let now = scene.now + Duration::from_millis(age);
            scene.mcache.recent(b"t", &peer, now, 10).len()
        };
        assert_eq!((recent(stranger, 0), recent(stranger, 1000)), (1, 0));
        assert_eq!((recent(source, 0), recent(own, 0)), (0, 0));
    }
}
