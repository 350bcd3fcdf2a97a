//! What was published in the last second, for peers that subscribe just after.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::{
    PeerId,
    gossipsub::{MessageId, TopicHash},
};

/// How long ago a message may be that a new subscriber gets (COMPATIBILITY.md 4.25).
const WINDOW: Duration = Duration::from_secs(1);

/// Messages remembered, of all topics.
const MAX_RECENT: usize = 1024;

/// Bytes of messages that no peer wanted when they were published.
const MAX_UNSENT: usize = 4 << 20;

/// Where a recent message is.
#[derive(Debug, Clone)]
pub(super) enum Copy {
    /// The library holds it.
    Sent(MessageId),
    /// Only here: there was no peer to send it to.
    Unsent { seqno: u64, data: Bytes },
}

impl Copy {
    fn size(&self) -> usize {
        match self {
            Self::Sent(_) => 0,
            Self::Unsent { data, .. } => data.len(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    at: Instant,
    /// Who made it and who passed it on: they have it.
    has: [Option<PeerId>; 2],
    pub(super) copy: Copy,
}

/// Messages of the last second, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    topics: HashMap<TopicHash, VecDeque<Entry>>,
    /// The topic of each message, in the order of the messages.
    order: VecDeque<TopicHash>,
    unsent: usize,
}

impl Recent {
    pub(super) fn add(&mut self, topic: TopicHash, has: [Option<PeerId>; 2], copy: Copy) {
        self.unsent += copy.size();
        self.topics
            .entry(topic.clone())
            .or_default()
            .push_back(Entry {
                at: Instant::now(),
                has,
                copy,
            });
        self.order.push_back(topic);
        self.expire();
    }

    /// Forgets what is too old, or too much.
    pub(super) fn expire(&mut self) {
        while let Some(topic) = self.order.front() {
            let crowded = self.order.len() > MAX_RECENT || self.unsent > MAX_UNSENT;
            let Some(entries) = self.topics.get_mut(topic) else {
                self.order.pop_front();
                continue;
            };
            if !crowded
                && entries
                    .front()
                    .is_some_and(|entry| entry.at.elapsed() < WINDOW)
            {
                break;
            }
            if let Some(entry) = entries.pop_front() {
                self.unsent -= entry.copy.size();
            }
            if entries.is_empty() {
                self.topics.remove(topic);
            }
            self.order.pop_front();
        }
    }

    /// Takes the messages of `topic` that `peer` need not have. What was [`Copy::Unsent`] is
    /// to be sent now and remembered anew.
    pub(super) fn for_subscriber(&mut self, topic: &TopicHash, peer: &PeerId) -> Vec<Copy> {
        self.expire();
        let Some(entries) = self.topics.get_mut(topic) else {
            return Vec::new();
        };
        entries
            .iter()
            .filter(|entry| !entry.has.contains(&Some(*peer)))
            .map(|entry| entry.copy.clone())
            .collect()
    }

    /// The message that was `seqno` is with the library now.
    pub(super) fn sent(&mut self, topic: &TopicHash, seqno: u64, id: &MessageId) {
        for entry in self.topics.get_mut(topic).into_iter().flatten() {
            if matches!(entry.copy, Copy::Unsent { seqno: other, .. } if other == seqno) {
                self.unsent -= entry.copy.size();
                entry.copy = Copy::Sent(id.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(seqno: u64, len: usize) -> Copy {
        let data = vec![0; len].into();
        Copy::Unsent { seqno, data }
    }

    #[test]
    fn there_are_bounds_to_what_is_remembered() {
        let mut recent = Recent::default();
        let topics = [TopicHash::from_raw("a"), TopicHash::from_raw("b")];
        for seqno in 0..3000 {
            let topic = topics[usize::from(seqno % 3 == 0)].clone();
            recent.add(topic, [None, None], unsent(seqno, 1));
        }
        let peer = PeerId::random();
        let count = |recent: &mut Recent, topic| recent.for_subscriber(topic, &peer).len();
        let both = count(&mut recent, &topics[0]) + count(&mut recent, &topics[1]);
        assert_eq!((both, recent.unsent), (MAX_RECENT, MAX_RECENT));
        recent.add(topics[0].clone(), [None, None], unsent(3000, MAX_UNSENT));
        assert_eq!(count(&mut recent, &topics[0]), 1);
        assert_eq!(recent.unsent, MAX_UNSENT);
        assert_eq!(count(&mut recent, &topics[1]), 0);
    }

    #[test]
    fn who_has_a_message_does_not_get_it() {
        let mut recent = Recent::default();
        let topic = TopicHash::from_raw("a");
        let (author, stranger) = (PeerId::random(), PeerId::random());
        recent.add(topic.clone(), [Some(author), None], unsent(1, 1));
        assert!(recent.for_subscriber(&topic, &author).is_empty());
        let id = MessageId::new(b"id");
        recent.sent(&topic, 1, &id);
        assert_eq!(recent.unsent, 0);
        let copies = recent.for_subscriber(&topic, &stranger);
        assert!(matches!(&copies[..], [Copy::Sent(other)] if *other == id));
    }
}
