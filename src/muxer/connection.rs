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

/// Asks a connection's task for a new outbound stream.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) reply: oneshot::Sender<io::Result<Substream>>,
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
    pub(super) opens: mpsc::Sender<OpenRequest>,
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

    /// Bytes of memory that the connection's streams take. mplex and quic do not count what waits
    /// to be read: where a reader waits, it is taken to be as much as may.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let streams = self.inbound_streams() + self.outbound_streams();
        self.buffered.bytes() + STREAM_COST * streams as u64
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.opens.is_closed()
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
        Ok(stream.counted(self.streams.add_outbound()))
    }
}
