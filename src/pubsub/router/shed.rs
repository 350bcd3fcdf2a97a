//! What is dropped when memory gets short: messages that wait, of those that hold most of them.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr, sync::Arc};

use super::{
    super::{rpc_queue::RpcQueue, subscriptions::Subscriber},
    Router,
};

/// Bytes of waiting messages that a peer or subscriber may keep when memory gets short.
const TRIM_THRESHOLD: usize = 1 << 20;

/// Who has messages waiting.
enum Holder {
    Peer(Arc<RpcQueue>),
    Subscriber(Arc<Subscriber>),
}

/// A holder, its bytes, and those of its address prefix.
struct Held {
    prefix: usize,
    own: usize,
    holder: Holder,
}

impl Router {
    fn holders(&self) -> Vec<Held> {
        let queues = self.state().queues();
        let mut prefixes: HashMap<IpAddr, usize> = HashMap::new();
        for (prefix, queue) in &queues {
            if let Some(prefix) = prefix {
                *prefixes.entry(*prefix).or_default() += queue.bytes();
            }
        }
        let peers = queues.into_iter().map(|(prefix, queue)| {
            let own = queue.bytes();
            let prefix = prefix.and_then(|prefix| prefixes.get(&prefix).copied());
            Held {
                prefix: prefix.unwrap_or(own),
                own,
                holder: Holder::Peer(queue),
            }
        });
        let subscribers = self.subscriptions.subscribers().into_iter();
        let subscribers = subscribers.map(|subscriber| {
            let own = subscriber.bytes();
            Held {
                prefix: own,
                own,
                holder: Holder::Subscriber(subscriber),
            }
        });
        peers
            .chain(subscribers)
            .filter(|held| held.own > 0)
            .collect()
    }

    fn clear(&self, holder: &Holder) {
        match holder {
            Holder::Peer(queue) => self.count_unsent(queue.clear()),
            Holder::Subscriber(subscriber) => self.subscriptions.clear(subscriber),
        }
    }

    /// Drops what waits for those that have much of it.
    pub(in super::super) fn trim(&self) {
        for held in self.holders() {
            if held.own < TRIM_THRESHOLD {
                continue;
            }
            self.clear(&held.holder);
        }
    }

    /// Drops `bytes` of messages that wait, or seven eighths of all if that is more. Those whose
    /// address prefix holds most lose theirs first, and among them those that hold most themselves.
    /// Returns the number of bytes. So many, because memory that is free may count as used, and only
    /// what the next messages find free keeps it from growing.
    pub(in super::super) fn shed(&self, bytes: usize) -> usize {
        let mut holders = self.holders();
        holders.sort_unstable_by_key(|held| Reverse((held.prefix, held.own)));
        let all: usize = holders.iter().map(|held| held.own).sum();
        let enough = bytes.max(all - all / 8);
        let mut dropped = 0;
        for held in holders {
            if dropped >= enough {
                break;
            }
            dropped += held.own;
            self.clear(&held.holder);
        }
        dropped
    }
}
