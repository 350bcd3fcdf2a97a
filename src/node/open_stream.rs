//! Streams to peers, as callers of the node get them.

use std::sync::Arc;

use bytes::BytesMut;
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout_at};

use super::{
    Node,
    dial::{DialError, Origin},
};
use crate::{
    muxer::Connection,
    streams::{OpenError, Peer, ProtocolName, StreamUser, UserStream},
};

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer could not be reached.
    #[error("failed to dial")]
    Dial(#[source] DialError),
    /// The client proposed nothing.
    #[error("no protocols specified")]
    NoProtocols,
    /// identify did not finish in time.
    #[error("identify failed to complete")]
    Identify,
    /// No protocol was agreed on in time.
    #[error("negotiation timed out")]
    NegotiationTimeout,
    /// The connection failed, or no protocol was agreed on.
    #[error(transparent)]
    Open(OpenError),
}

/// A stream to a peer.
#[derive(Debug)]
pub struct OpenedStream {
    /// The bytes.
    pub stream: UserStream,
    /// The agreed protocol.
    pub protocol: ProtocolName,
    /// The peer's address on the connection in use, without `/p2p/<peer>`.
    pub remote: Multiaddr,
}

impl Node {
    /// Opens a stream to `peer` on the first of `protocols` that it speaks, dialing it if
    /// need be. On a live connection the swarm is not involved.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open_stream(
        &self,
        peer: PeerId,
        protocols: &[ProtocolName],
        deadline: Instant,
    ) -> Result<OpenedStream, StreamError> {
        let connected = self
            .find_and_reach(peer, Vec::new(), deadline)
            .await
            .map_err(StreamError::Dial)?;
        if protocols.is_empty() {
            return Err(StreamError::NoProtocols);
        }
        let (known, connection) = ready(&connected, deadline).await?;
        let opening = self
            .0
            .streams
            .open(&connection, &known, protocols, StreamUser::Client);
        let (stream, protocol) = agreed(opening, deadline).await?;
        Ok(OpenedStream {
            stream,
            protocol,
            remote: connection.remote.clone(),
        })
    }

    /// Opens a stream on a protocol of the daemon's own to `peer`, trying `addresses` and those
    /// known of it. Waits neither for identify nor for the peer's consent: a refusal is an error
    /// of the first read. Never through a relay, whose limits are for what clients do.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open_service_stream(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: &str,
        deadline: Instant,
    ) -> Result<UserStream, StreamError> {
        let (_, connection) = self
            .reach_directly(peer, addresses, Origin::Hearsay, deadline)
            .await
            .map_err(StreamError::Dial)?;
        let (known, names) = ([protocol.to_owned()], [protocol.into()]);
        let opening = self
            .0
            .streams
            .open(&connection, &known, &names, StreamUser::Daemon);
        Ok(agreed(opening, deadline).await?.0)
    }

    /// Opens a stream of `protocol` to `relay`, which may be dialed at `addresses` and at those
    /// known of it, and waits for its consent unless it is known to speak the protocol.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open_relay_stream(
        &self,
        relay: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: &str,
        deadline: Instant,
    ) -> Result<OpenedStream, StreamError> {
        let (connected, connection) = self
            .reach_directly(relay, addresses, Origin::Given, deadline)
            .await
            .map_err(StreamError::Dial)?;
        let known = connected.protocols().unwrap_or_default();
        let names = [protocol.into()];
        let opening = self
            .0
            .streams
            .open(&connection, &known, &names, StreamUser::Daemon);
        let (stream, protocol) = agreed(opening, deadline).await?;
        Ok(OpenedStream {
            stream,
            protocol,
            remote: connection.remote.clone(),
        })
    }

    /// As [`Node::open_stream`] for one call; see [`crate::streams::Streams::open_call`].
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open_call(
        &self,
        peer: PeerId,
        protocol: &ProtocolName,
        deadline: Instant,
    ) -> Result<(UserStream, BytesMut), StreamError> {
        let connected = self
            .find_and_reach(peer, Vec::new(), deadline)
            .await
            .map_err(StreamError::Dial)?;
        let (_, connection) = ready(&connected, deadline).await?;
        let opening = self.0.streams.open_call(&connection, &connected, protocol);
        agreed(opening, deadline).await
    }
}

/// What identify told of a connected peer, and the connection to open streams on.
async fn ready(
    connected: &Peer,
    deadline: Instant,
) -> Result<(Arc<[String]>, Arc<Connection>), StreamError> {
    let known = match connected.protocols() {
        Some(known) => known,
        None => timeout_at(deadline, connected.identified())
            .await
            .map_err(|_| StreamError::Identify)?,
    };
    let connection = connected
        .best_connection()
        .ok_or(StreamError::Dial(DialError::ConnectionFailed))?;
    Ok((known, connection))
}

/// What `opening` gives, if it does before `deadline`.
async fn agreed<T>(
    opening: impl Future<Output = Result<T, OpenError>>,
    deadline: Instant,
) -> Result<T, StreamError> {
    timeout_at(deadline, opening)
        .await
        .map_err(|_| StreamError::NegotiationTimeout)?
        .map_err(StreamError::Open)
}
