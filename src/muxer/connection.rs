//! A live connection as everything outside its own task sees it.

use std::{io, sync::Arc, time::Instant};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Carrier,
    wire::carrier::{ip_version, transport_name},
};

use super::{Substream, buffered::Buffered, stream_counts::StreamCounts};

/// Who waits for an outbound stream.
pub(super) type Opener = oneshot::Sender<io::Result<Substream>>;

/// What a connection's task is asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// A new outbound stream, which is counted from the moment it is there.
    Open(Opener),
    /// The end of the connection, unless it is in use or about to be.
    CloseIfIdle,
}

/// What a stream costs that holds no payload, in bytes: its entries here, its tasks.
const STREAM_COST: u64 = 4096;

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
    /// Name of the security protocol; empty on quic, which has its own.
    pub security: &'static str,
    /// Name of the multiplexer; empty on quic.
    pub muxer: &'static str,
    /// When the connection's task began.
    pub since: Instant,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) streams: Arc<StreamCounts>,
    pub(super) buffered: Arc<Buffered>,
    /// Ends the connection's task.
    pub(super) abort: CancellationToken,
}

impl Connection {
    /// What carries it, as metrics tell connections apart.
    pub(crate) fn carrier(&self) -> Carrier {
        Carrier {
            outbound: self.dialed,
            transport: transport_name(&self.remote),
            security: self.security,
            muxer: self.muxer,
            ip_version: ip_version(&self.remote),
        }
    }

    /// Inbound streams open now.
    #[must_use]
    pub fn inbound_streams(&self) -> usize {
        self.streams.inbound()
    }

    /// Whether every open stream is one of the daemon's own.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.streams.are_background()
    }

    /// Outbound streams open now.
    #[must_use]
    pub fn outbound_streams(&self) -> usize {
        self.streams.outbound()
    }

    /// Payload of its streams that has come so far, in bytes.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.streams.received()
    }

    /// Payload of its streams that was accepted for sending so far, in bytes.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.streams.sent()
    }

    /// Bytes of memory that the remote makes the connection's streams take; a stream that was opened
    /// from here costs it its payload only. mplex and quic do not count what waits to be read: where
    /// a reader waits, it is taken to be as much as may.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.buffered.bytes() + STREAM_COST * self.inbound_streams() as u64
    }

    /// Bytes that the multiplexer may hold beside [`Connection::memory`] without anybody knowing: on
    /// quic what has come on its streams and was not read, and what was written and is not
    /// acknowledged. 0 if nothing has moved yet.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        let moved = self.inbound_streams() > 0 || self.sent() > 0;
        if moved { self.buffered.unseen } else { 0 }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Ends the connection without sending what is queued.
    pub fn cut(&self) {
        self.abort.cancel();
    }

    /// Whether it has been cut, and its task may not have noticed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.abort.is_cancelled()
    }

    /// Closes the connection if it has no streams but the daemon's own once its task gets to it: one
    /// that has come to be used meanwhile stays. Whether the task was asked.
    pub fn close_if_idle(&self) -> bool {
        self.requests.try_send(Request::CloseIfIdle).is_ok()
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
        self.requests
            .send(Request::Open(reply))
            .await
            .map_err(|_| gone())?;
        stream.await.map_err(|_| gone())?
    }
}
