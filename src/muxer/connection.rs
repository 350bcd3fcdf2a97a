//! A live connection as everything outside its own task sees it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Substream;

/// Asks a connection's task for a new outbound stream.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) reply: oneshot::Sender<io::Result<Substream>>,
}

/// What a stream costs that holds no payload, in bytes: its entries here, its tasks.
const STREAM_COST: u64 = 4096;

/// Payload that a connection holds. The counts of the two ends of a queue may be seen in any
/// order, so they are below zero for moments.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) unread: AtomicI64,
    pub(super) unsent: AtomicI64,
    /// Streams whose readers are held up.
    pub(super) blocked: AtomicI64,
    /// What may wait to be read on one of these, where the multiplexer does not tell.
    pub(super) window: u64,
    /// And on all of them.
    pub(super) windows: u64,
}

impl Held {
    fn bytes(&self) -> u64 {
        let count = |count: &AtomicI64| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        let unknown = count(&self.blocked).saturating_mul(self.window);
        let known = count(&self.unread) + count(&self.unsent);
        known.saturating_add(unknown.min(self.windows))
    }
}

/// The reader of one stream, and how much it holds itself while it is held up.
#[derive(Debug)]
pub(super) struct Reader {
    held: Arc<Held>,
    bytes: i64,
}

impl Reader {
    pub(super) fn new(held: Arc<Held>) -> Self {
        Self { held, bytes: 0 }
    }

    pub(super) fn note(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes == self.bytes {
            return;
        }
        let streams = i64::from(bytes > 0) - i64::from(self.bytes > 0);
        self.held.blocked.fetch_add(streams, Ordering::Relaxed);
        let change = bytes - self.bytes;
        self.held.unread.fetch_add(change, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.note(0);
    }
}

/// A live connection: where it leads and how to open streams on it.
#[derive(Debug)]
pub struct Connection {
    /// The authenticated remote peer.
    pub peer: PeerId,
    /// The remote's address, without `/p2p/<peer>`.
    pub remote: Multiaddr,
    /// Whether the connection runs through a relay.
    pub relayed: bool,
    /// Whether this side dialed.
    pub dialed: bool,
    pub(super) opens: mpsc::Sender<OpenRequest>,
    pub(super) inbound: AtomicUsize,
    /// How many of the inbound ones the daemon itself serves.
    pub(super) upkeep: AtomicUsize,
    pub(super) outbound: AtomicUsize,
    pub(super) held: Arc<Held>,
    /// Ends the connection's task.
    pub(super) abort: CancellationToken,
}

impl Connection {
    /// Inbound streams open now.
    #[must_use]
    pub fn inbound_streams(&self) -> usize {
        self.inbound.load(Ordering::Acquire)
    }

    /// Whether no stream is open but such as the daemon itself serves.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let upkeep = self.upkeep.load(Ordering::Acquire);
        self.inbound_streams() <= upkeep && self.outbound_streams() == 0
    }

    /// Streams open now that this daemon's clients or its DHT opened.
    #[must_use]
    pub fn outbound_streams(&self) -> usize {
        self.outbound.load(Ordering::Acquire)
    }

    /// Bytes of memory that the connection's streams hold. mplex and quic do not tell what waits to
    /// be read: as much as may, where a reader is held up.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let streams = self.inbound_streams() + self.outbound_streams();
        self.held.bytes() + STREAM_COST * streams as u64
    }

    /// Ends the connection without sending what is queued.
    pub fn cut(&self) {
        self.abort.cancel();
    }

    /// Opens a stream; nothing is negotiated on it yet.
    ///
    /// Does not involve the swarm: the request goes straight to the connection's task.
    ///
    /// # Errors
    /// If the connection is gone.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream if it was already open.
    pub async fn open(self: &Arc<Self>) -> io::Result<Substream> {
        let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "connection closed");
        let (reply, stream) = oneshot::channel();
        self.opens
            .send(OpenRequest { reply })
            .await
            .map_err(|_| gone())?;
        let stream = stream.await.map_err(|_| gone())??;
        Ok(stream.counted(OutboundSlot::take(self)))
    }
}

/// Counts one inbound stream of a [`Connection`] for as long as it is held.
#[derive(Debug)]
pub struct InboundSlot {
    connection: Arc<Connection>,
    upkeep: bool,
}

impl InboundSlot {
    pub(super) fn take(connection: &Arc<Connection>, limit: usize) -> Option<Self> {
        let slot = Self {
            connection: connection.clone(),
            upkeep: false,
        };
        (connection.inbound.fetch_add(1, Ordering::AcqRel) < limit).then_some(slot)
    }

    /// The connection the stream came on.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The daemon itself serves the stream: peers keep such ones open without using them.
    pub fn is_upkeep(&mut self) {
        if !self.upkeep {
            self.upkeep = true;
            self.connection.upkeep.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for InboundSlot {
    fn drop(&mut self) {
        if self.upkeep {
            self.connection.upkeep.fetch_sub(1, Ordering::AcqRel);
        }
        self.connection.inbound.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts one outbound stream of a [`Connection`] for as long as it is held.
#[derive(Debug)]
pub(super) struct OutboundSlot(Arc<Connection>);

impl OutboundSlot {
    fn take(connection: &Arc<Connection>) -> Self {
        connection.outbound.fetch_add(1, Ordering::AcqRel);
        Self(connection.clone())
    }
}

impl Drop for OutboundSlot {
    fn drop(&mut self) {
        self.0.outbound.fetch_sub(1, Ordering::AcqRel);
    }
}
