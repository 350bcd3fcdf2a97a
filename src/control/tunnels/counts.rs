//! What tunnels have carried.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{control::pipe, streams::UserStream};

/// What one tunnel, or all, have carried.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicUsize,
    total: AtomicU64,
    failed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// What was carried, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Connections now.
    pub open: usize,
    /// Connections so far.
    pub total: u64,
    /// Those that failed or were refused.
    pub failed: u64,
    /// Payload bytes from peers.
    pub received: u64,
    /// Payload bytes to peers.
    pub sent: u64,
}

impl Counts {
    pub(super) fn total(&self) -> Total {
        Total {
            open: self.open.load(Relaxed),
            total: self.total.load(Relaxed),
            failed: self.failed.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
        }
    }

    pub(super) fn came(&self) {
        self.total.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }
}

/// Counts a connection until dropped: for its tunnel, and for all.
#[derive(Debug)]
pub(super) struct Open([Arc<Counts>; 2]);

impl Open {
    pub(super) fn new(counts: [Arc<Counts>; 2]) -> Self {
        for counts in &counts {
            counts.open.fetch_add(1, Relaxed);
        }
        Self(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for counts in &self.0 {
            counts.open.fetch_sub(1, Relaxed);
        }
    }
}

/// The stream of a connection, counted.
#[derive(Debug)]
pub(super) struct Counted {
    stream: UserStream,
    open: Open,
    /// Bytes that the peer has sent on this one.
    heard: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn new(stream: UserStream, open: Open, heard: Arc<AtomicU64>) -> Self {
        Self {
            stream,
            open,
            heard,
        }
    }
}

impl pipe::Stream for Counted {
    fn blocked(&mut self, bytes: usize) {
        self.stream.blocked(bytes);
    }

    fn is_gone(&self) -> bool {
        self.stream.is_gone()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(n @ 1..)) = read {
            self.heard.fetch_add(n as u64, Relaxed);
            for counts in &self.open.0 {
                counts.received.fetch_add(n as u64, Relaxed);
            }
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = written {
            for counts in &self.open.0 {
                counts.sent.fetch_add(n as u64, Relaxed);
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
