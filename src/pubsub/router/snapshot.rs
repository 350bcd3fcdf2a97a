//! What the router knows at one moment.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    super::snapshot::{PeerSnapshot, Snapshot},
    Router,
    state::{State, Topic},
};

/// Topics that a snapshot looks at while the lock is held. Each has so many peers at most as are
/// connected.
const MAX_LOOKED_AT: usize = 16;

impl Router {
    /// What is known at this moment.
    pub(in crate::pubsub) fn snapshot(&self) -> Snapshot {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let mut snapshot = Snapshot {
            published: load(&self.counters.published),
            delivered: load(&self.subscriptions.delivered),
            lost_by_subscribers: load(&self.subscriptions.dropped),
            lost_by_peers: load(&self.counters.unsent),
            duplicates: load(&self.counters.duplicates),
            rejected: load(&self.counters.rejected),
            ..Snapshot::default()
        };
        for (topic, subscribers) in self.subscriptions.counts() {
            snapshot.topics.entry(topic).or_default().subscribers = subscribers;
        }
        let names = {
            let state = self.state();
            state.fill_peers(&mut snapshot);
            state.own_topics()
        };
        // Messages pass in between: thousands of topics have hundreds of peers each.
        for names in names.chunks(MAX_LOOKED_AT) {
            self.state().fill_topics(&mut snapshot, names);
        }
        snapshot
    }
}

impl State {
    /// Adds the peers to a snapshot.
    fn fill_peers(&self, snapshot: &mut Snapshot) {
        let peers = self.peers.iter().filter(|(_, peer)| peer.has_writer);
        let peers = peers.map(|(id, peer)| PeerSnapshot {
            peer: *id,
            topics: peer.topics.len(),
            queued: peer.queue.bytes(),
        });
        snapshot.peers = peers.collect();
    }

    /// Topics that this node takes part in, as a subscriber or as a publisher.
    fn own_topics(&self) -> Vec<Arc<[u8]>> {
        let own = |topic: &Topic| topic.joined || topic.fanout.is_some();
        let names = self.topics.iter().filter(|(_, topic)| own(topic));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Adds these topics to a snapshot, as far as they are there still.
    fn fill_topics(&self, snapshot: &mut Snapshot, names: &[Arc<[u8]>]) {
        for name in names {
            let Some(topic) = self.topics.get(name) else {
                continue;
            };
            let entry = snapshot.topics.entry(name.clone()).or_default();
            entry.peers = self.members.of(name).count();
            entry.mesh = topic.mesh.len();
            entry.fanout = topic.fanout.as_ref().map_or(0, |fanout| fanout.peers.len());
        }
    }
}
