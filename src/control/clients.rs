//! How many clients there are, by what their connections are used for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// What a client's connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Requests and answers.
    Requests,
    /// The bytes of a stream that the client has opened.
    Stream,
    /// The messages of a topic, to have or to validate, or events.
    Subscription,
    /// Calls.
    Persistent,
}

/// The clients that are connected.
#[derive(Debug, Default)]
pub struct Clients {
    counts: [AtomicUsize; 4],
    /// Connections so far.
    came: AtomicU64,
}

/// The clients at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections that carry requests.
    pub requests: usize,
    /// Connections that have become a stream.
    pub streams: usize,
    /// Connections that carry the messages of a topic, to have or to validate, or events.
    pub subscriptions: usize,
    /// Persistent connections.
    pub persistent: usize,
    /// Connections so far.
    pub came: u64,
}

impl Snapshot {
    /// Connections of whatever use.
    #[must_use]
    pub fn sum(&self) -> usize {
        self.requests + self.streams + self.subscriptions + self.persistent
    }
}

/// Counts a client until dropped.
#[derive(Debug)]
pub(super) struct Present(Arc<Clients>, Use);

impl Clients {
    /// A connection is used in this way from now on. Each begins with requests.
    pub(super) fn enter(self: &Arc<Self>, purpose: Use) -> Present {
        if purpose == Use::Requests {
            self.came.fetch_add(1, Relaxed);
        }
        self.counts[purpose as usize].fetch_add(1, Relaxed);
        Present(self.clone(), purpose)
    }

    /// How many there are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |purpose: Use| self.counts[purpose as usize].load(Relaxed);
        Snapshot {
            requests: count(Use::Requests),
            streams: count(Use::Stream),
            subscriptions: count(Use::Subscription),
            persistent: count(Use::Persistent),
            came: self.came.load(Relaxed),
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.counts[self.1 as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_is_counted_until_its_end() {
        let clients = Arc::new(Clients::default());
        let one = clients.enter(Use::Requests);
        let _stream = clients.enter(Use::Stream);
        let _subscription = clients.enter(Use::Subscription);
        let _persistent = clients.enter(Use::Persistent);
        let all = Snapshot {
            requests: 1,
            streams: 1,
            subscriptions: 1,
            persistent: 1,
            came: 1,
        };
        assert_eq!(clients.snapshot(), all);
        drop(one);
        assert_eq!(clients.snapshot(), Snapshot { requests: 0, ..all });
    }
}
