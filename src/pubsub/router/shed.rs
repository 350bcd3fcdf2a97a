//! What is given up when memory gets short.

use std::{cmp::Reverse, sync::Arc};

use super::{
    super::{rpc_queue::RpcQueue, subscriptions::Subscriber},
    Router,
};

/// Bytes of waiting messages of a peer or subscriber that loses them when memory gets short.
const MUCH: usize = 1 << 20;

/// Bytes of waiting messages: what all had, what has been given up, what would be next.
struct Given {
    all: usize,
    freed: usize,
    next: usize,
}

/// Who has messages waiting.
enum Holder {
    Peer(Arc<RpcQueue>),
    Subscriber(Arc<Subscriber>),
}

impl Router {
    /// Drops what waits for one peer or subscriber after the other, beginning with those that have
    /// most of it, until that is `enough`; how many bytes it was.
    fn give_up(&self, enough: impl Fn(Given) -> bool) -> usize {
        let queues: Vec<_> = {
            let state = self.state();
            let peers = state.peers.values();
            peers.map(|peer| peer.queue.clone()).collect()
        };
        let peers = queues
            .into_iter()
            .map(|queue| (queue.bytes(), Holder::Peer(queue)));
        let subscribers = self.subscriptions.subscribers().into_iter();
        let subscribers = subscribers.map(|one| (one.bytes(), Holder::Subscriber(one)));
        let mut holders: Vec<_> = peers.chain(subscribers).collect();
        holders.sort_unstable_by_key(|(held, _)| Reverse(*held));
        let all = holders.iter().map(|(held, _)| held).sum();
        let mut freed = 0;
        for (next, holder) in holders {
            if next == 0 || enough(Given { all, freed, next }) {
                break;
            }
            freed += next;
            match holder {
                Holder::Peer(queue) => self.lost(queue.clear()),
                Holder::Subscriber(subscriber) => self.subscriptions.clear(&subscriber),
            }
        }
        freed
    }

    /// Drops what waits for those that have much of it.
    pub(in super::super) fn trim(&self) {
        self.give_up(|given| given.next < MUCH);
    }

    /// Drops `bytes` of messages that wait, or seven eighths of all if that is more, of the peers
    /// and subscribers with most of them first; how many it was. So many, because memory that is
    /// free may count as used, and only what the next messages find free keeps it from growing.
    pub(in super::super) fn shed(&self, bytes: usize) -> usize {
        self.give_up(|given| given.freed >= bytes.max(given.all - given.all / 8))
    }
}
