//! How many streams a connection has, and the bytes that they carry.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crate::{memory::received, metrics::metrics};

/// What a stream may take that has just been opened, in bytes: its negotiation, its tasks.
const STREAM_COST: usize = 16 * 1024;

/// The streams of one connection that are open now.
#[derive(Debug, Default)]
pub(super) struct StreamCounts {
    inbound: AtomicUsize,
    outbound: AtomicUsize,
    /// How many of both are the daemon's own. Peers keep such streams open without using them.
    background: AtomicUsize,
    /// Payload read from streams so far, in bytes.
    received: AtomicU64,
    /// Payload written to streams so far, in bytes.
    sent: AtomicU64,
    /// The connection has ended.
    gone: AtomicBool,
}

/// Who opened a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Inbound,
    Outbound,
}

impl StreamCounts {
    /// Counts an inbound stream, unless there are `limit` of them already.
    pub(super) fn add_inbound(self: &Arc<Self>, limit: usize) -> Option<StreamGuard> {
        let guard = self.guard(Direction::Inbound);
        received(STREAM_COST);
        let before = self.inbound.fetch_add(1, Ordering::AcqRel);
        metrics().peers.streams(false, before, before + 1);
        (before < limit).then_some(guard)
    }

    /// Counts an outbound stream.
    pub(super) fn add_outbound(self: &Arc<Self>) -> StreamGuard {
        let before = self.outbound.fetch_add(1, Ordering::AcqRel);
        metrics().peers.streams(true, before, before + 1);
        self.guard(Direction::Outbound)
    }

    /// The caller adds the stream to the count that the guard's drop lowers.
    fn guard(self: &Arc<Self>, direction: Direction) -> StreamGuard {
        StreamGuard {
            counts: self.clone(),
            direction,
            background: false,
        }
    }

    pub(super) fn inbound(&self) -> usize {
        self.inbound.load(Ordering::Acquire)
    }

    pub(super) fn outbound(&self) -> usize {
        self.outbound.load(Ordering::Acquire)
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether every stream is one of the daemon's own.
    pub(super) fn are_background(&self) -> bool {
        let background = self.background.load(Ordering::Acquire);
        self.inbound() + self.outbound() <= background
    }

    /// The connection has ended: what is written to its streams goes nowhere.
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    fn of(&self, direction: Direction) -> &AtomicUsize {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

/// Counts one stream until dropped.
#[derive(Debug)]
pub(super) struct StreamGuard {
    counts: Arc<StreamCounts>,
    direction: Direction,
    background: bool,
}

impl StreamGuard {
    /// So many bytes have come on the stream.
    pub(super) fn received(&self, bytes: usize) {
        let received = &self.counts.received;
        received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes are accepted for sending.
    pub(super) fn sent(&self, bytes: usize) {
        let sent = &self.counts.sent;
        sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the connection has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.counts.gone.load(Ordering::Acquire)
    }

    /// The stream is one of the daemon's own.
    pub(super) fn set_background(&mut self) {
        if !self.background {
            self.background = true;
            self.counts.background.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.background {
            self.counts.background.fetch_sub(1, Ordering::AcqRel);
        }
        let count = self.counts.of(self.direction);
        let before = count.fetch_sub(1, Ordering::AcqRel);
        let outbound = self.direction == Direction::Outbound;
        let after = before.saturating_sub(1);
        metrics().peers.streams(outbound, before, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_count_until_dropped_and_no_further_than_the_limit() {
        let counts = Arc::new(StreamCounts::default());
        let first = counts.add_inbound(2);
        let second = counts.add_inbound(2);
        assert!(first.is_some() && second.is_some());
        assert!(counts.add_inbound(2).is_none());
        assert_eq!(counts.inbound(), 2, "one that is refused counts no longer");
        drop(first);
        assert_eq!(counts.inbound(), 1);
        assert!(counts.add_inbound(2).is_some());

        assert!(!counts.are_background());
        let (mut second, mut outbound) = (second.expect("a guard"), counts.add_outbound());
        second.set_background();
        second.set_background();
        assert!(!counts.are_background());
        outbound.set_background();
        assert!(counts.are_background());
        assert_eq!((counts.inbound(), counts.outbound()), (1, 1));
        drop((second, outbound));
        assert_eq!((counts.inbound(), counts.outbound()), (0, 0));
        assert!(counts.are_background());
        let user = counts.add_outbound();
        assert!(!counts.are_background());
        drop(user);
    }
}
