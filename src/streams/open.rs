//! Outbound streams: opened on a live connection, with a protocol agreed on.

use std::{io, sync::Arc};

use bytes::BytesMut;

use super::{NegotiationError, Streams, UserStream, name::ProtocolName, negotiate, peers::Peer};
use crate::{memory::Charge, muxer::Connection};

/// Who uses an outbound stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamUser {
    /// A client, whose streams with a peer may be limited.
    Client,
    /// The daemon itself.
    Daemon,
}

impl Streams {
    /// Agrees on one of `protocols` with `peer` on a new stream of `connection`.
    ///
    /// If the peer is known to speak one of them, the first such is proposed and the stream
    /// returned at once; a refusal then shows as an error of the first read, as in Go.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open(
        &self,
        connection: &Arc<Connection>,
        known: &[String],
        protocols: &[ProtocolName],
        user: StreamUser,
    ) -> Result<(UserStream, ProtocolName), OpenError> {
        let stream = connection.open().await.map_err(OpenError::Open)?;
        if let Some(name) = protocols
            .iter()
            .find(|name| known.iter().any(|known| known == *name))
        {
            let stream = negotiate::dial_lazily(stream, name)
                .await
                .map_err(|error| OpenError::Negotiation(error.into()))?;
            return Ok((self.tapped(connection, stream, name, user)?, name.clone()));
        }
        let (stream, index) = negotiate::dial(stream, self.charge(connection), protocols)
            .await
            .map_err(OpenError::Negotiation)?;
        let name = &protocols[index];
        Ok((self.tapped(connection, stream, name, user)?, name.clone()))
    }

    /// A stream of `connection` to `peer` for one call of `protocol`, and what must be sent before
    /// the call, in one piece with it.
    ///
    /// A protocol that the peer has agreed to before is proposed together with the call; a
    /// refusal then shows as [`io::ErrorKind::ConnectionRefused`] of the first read.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open_call(
        &self,
        connection: &Arc<Connection>,
        peer: &Peer,
        protocol: &ProtocolName,
    ) -> Result<(UserStream, BytesMut), OpenError> {
        let stream = connection.open().await.map_err(OpenError::Open)?;
        if peer.speaks(protocol) {
            let (stream, first) = negotiate::propose(stream, protocol);
            return Ok((
                self.tapped(connection, stream, protocol, StreamUser::Client)?,
                first,
            ));
        }
        let names = std::slice::from_ref(protocol);
        let (stream, _) = negotiate::dial(stream, Some(peer.account.empty_charge()), names)
            .await
            .map_err(OpenError::Negotiation)?;
        peer.agreed(protocol);
        let stream = self.tapped(connection, stream, protocol, StreamUser::Client)?;
        Ok((stream, BytesMut::new()))
    }

    /// Counts a new stream, unless a limit forbids it.
    fn tapped(
        &self,
        connection: &Connection,
        mut stream: UserStream,
        name: &ProtocolName,
        user: StreamUser,
    ) -> Result<UserStream, OpenError> {
        // Whoever has gone meanwhile has no streams.
        if let Some(peer) = self.peers.get(&connection.peer) {
            let open = (user == StreamUser::Client).then_some(&peer.open);
            let tap = self.traffic.open(connection.peer, name, open);
            stream.set_tap(tap.map_err(|error| OpenError::Open(io::Error::other(error)))?);
        }
        Ok(stream)
    }

    /// For what is received on a stream of `connection`.
    pub(super) fn charge(&self, connection: &Connection) -> Option<Charge> {
        let peer = self.peers.get(&connection.peer)?;
        Some(peer.account.empty_charge())
    }
}

/// Why a stream could not be opened on a live connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection failed before the stream existed.
    #[error("failed to open stream")]
    Open(#[source] io::Error),
    /// No protocol was agreed on.
    #[error("failed to negotiate protocol")]
    Negotiation(#[source] NegotiationError),
}
