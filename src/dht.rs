//! The Kademlia DHT: queries for clients, answers for peers (`/ipfs/kad/1.0.0`).

pub mod disk;
pub mod record;

use std::sync::Arc;

use futures::stream::BoxStream;
use libp2p::{Multiaddr, PeerId, identity::PublicKey};
use tokio::time::Instant;

pub use record::{RecordError, Validator};

/// A peer and where it may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer.
    pub id: PeerId,
    /// Its addresses, without `/p2p/<id>`.
    pub addresses: Vec<Multiaddr>,
}

/// Why a query brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// There is nobody to ask.
    #[error("failed to find any peer in table")]
    EmptyTable,
    /// Everybody was asked and nobody knew.
    #[error("routing: not found")]
    NotFound,
    /// An empty key has no place in the key space.
    #[error("can't lookup empty key")]
    EmptyKey,
    /// The record was not accepted.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A better record is held already.
    #[error("can't replace a newer value with an older value")]
    OldRecord,
    /// As many queries are under way as this daemon allows.
    #[error("too many DHT queries in flight")]
    Busy,
    /// The deadline passed.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
}

/// A handle to the DHT node, cheap to clone.
///
/// Dropping the future or stream of a query ends the query.
#[derive(Debug, Clone)]
pub struct Dht(Arc<Inner>);

#[derive(Debug)]
struct Inner {}

impl Dht {
    /// Where `peer` is.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn find_peer(&self, peer: PeerId, deadline: Instant) -> Result<PeerInfo, QueryError> {
        let _ = (peer, deadline, &self.0);
        todo!()
    }

    /// At most `count` providers of `key`, a multihash, as they are found; those known here
    /// come first. The stream ends at the deadline, too.
    #[must_use]
    pub fn find_providers(
        &self,
        key: Vec<u8>,
        count: usize,
        deadline: Instant,
    ) -> BoxStream<'static, PeerInfo> {
        let _ = (key, count, deadline);
        todo!()
    }

    /// The peers closest to `key`, at most 20, the closest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn closest_peers(
        &self,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Vec<PeerId>, QueryError> {
        let _ = (key, deadline);
        todo!()
    }

    /// The public key of `peer`.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn public_key(
        &self,
        peer: PeerId,
        deadline: Instant,
    ) -> Result<PublicKey, QueryError> {
        let _ = (peer, deadline);
        todo!()
    }

    /// The best record for `key`.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn get_value(&self, key: Vec<u8>, deadline: Instant) -> Result<Vec<u8>, QueryError> {
        let _ = (key, deadline);
        todo!()
    }

    /// Ever better records for `key`. The stream ends at the deadline, too.
    #[must_use]
    pub fn search_value(&self, key: Vec<u8>, deadline: Instant) -> BoxStream<'static, Vec<u8>> {
        let _ = (key, deadline);
        todo!()
    }

    /// Stores a record here and at the closest peers.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn put_value(
        &self,
        key: Vec<u8>,
        value: Vec<u8>,
        deadline: Instant,
    ) -> Result<(), QueryError> {
        let _ = (key, value, deadline);
        todo!()
    }

    /// Announces at the closest peers that this daemon provides `key`, a multihash.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn provide(&self, key: Vec<u8>, deadline: Instant) -> Result<(), QueryError> {
        let _ = (key, deadline);
        todo!()
    }
}
