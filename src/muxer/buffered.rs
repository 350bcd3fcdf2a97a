//! Payload that waits in a connection, by how much memory it takes.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

/// Payload that waits in one connection, in bytes. The two ends of a queue may be counted in any
/// order, so a count may be negative for a moment.
#[derive(Debug, Default)]
pub(super) struct Buffered {
    /// Received, and not read by the stream's owner.
    pub(super) unread: AtomicI64,
    /// Announced by the header of the frame that is arriving. The multiplexer allocates it whole.
    pub(super) arriving: AtomicU64,
    /// Written by a stream's owner, and not sent.
    pub(super) unsent: AtomicI64,
    /// Streams whose readers wait.
    pub(super) blocked: AtomicI64,
    /// Bytes that may be unread on one of these, where the multiplexer does not count them.
    pub(super) window: u64,
    /// Bytes that may be unread on all of them together.
    pub(super) windows: u64,
    /// Bytes that the multiplexer may hold, read and written, without anybody knowing.
    pub(super) unseen: u64,
}

impl Buffered {
    pub(super) fn bytes(&self) -> u64 {
        let count = |count: &AtomicI64| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        let unknown = count(&self.blocked).saturating_mul(self.window);
        let known = count(&self.unread) + count(&self.unsent);
        let arriving = self.arriving.load(Ordering::Relaxed);
        (known + arriving).saturating_add(unknown.min(self.windows))
    }
}

/// What the reader of one stream has read and cannot pass on yet.
#[derive(Debug)]
pub(super) struct Backlog {
    buffered: Arc<Buffered>,
    bytes: i64,
}

impl Backlog {
    pub(super) fn new(buffered: Arc<Buffered>) -> Self {
        Self { buffered, bytes: 0 }
    }

    /// The reader waits with so many bytes; with 0, it does not wait.
    pub(super) fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes == self.bytes {
            return;
        }
        let streams = i64::from(bytes > 0) - i64::from(self.bytes > 0);
        self.buffered.blocked.fetch_add(streams, Ordering::Relaxed);
        let change = bytes - self.bytes;
        self.buffered.unread.fetch_add(change, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.set(0);
    }
}
