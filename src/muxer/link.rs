//! A live connection as everything outside its own task sees it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use super::Substream;

/// Asks a connection's task for a new outbound stream.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) reply: oneshot::Sender<io::Result<Substream>>,
}

/// A live connection: where it leads and how to open streams on it.
#[derive(Debug)]
pub struct Link {
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
}

impl Link {
    /// Inbound streams open now.
    #[must_use]
    pub fn inbound_streams(&self) -> usize {
        self.inbound.load(Ordering::Acquire)
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
    pub async fn open(&self) -> io::Result<Substream> {
        let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "connection closed");
        let (reply, stream) = oneshot::channel();
        self.opens
            .send(OpenRequest { reply })
            .await
            .map_err(|_| gone())?;
        stream.await.map_err(|_| gone())?
    }
}

/// Counts one inbound stream of a [`Link`] for as long as it is held.
#[derive(Debug)]
pub struct InboundSlot(Arc<Link>);

impl InboundSlot {
    pub(super) fn take(link: &Arc<Link>, limit: usize) -> Option<Self> {
        let slot = Self(link.clone());
        (link.inbound.fetch_add(1, Ordering::AcqRel) < limit).then_some(slot)
    }

    /// The connection the stream came on.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for InboundSlot {
    fn drop(&mut self) {
        self.0.inbound.fetch_sub(1, Ordering::AcqRel);
    }
}
