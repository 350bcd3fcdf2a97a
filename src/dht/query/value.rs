//! The queries of clients about records and public keys.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, stream, stream::BoxStream};
use libp2p::{PeerId, identity::PublicKey};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{Dht, Inner, QueryError, store::Holder, validators::Asker},
    search::{Search, put_request},
    stream_of, within,
};
use crate::telemetry::Chain;

/// The namespace of public keys.
const PUBLIC_KEY_PREFIX: &[u8] = b"/pk/";

impl Dht {
    /// The public key of `peer`: from its id, from having met it, from itself, or from the DHT.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn public_key(
        &self,
        peer: PeerId,
        deadline: Instant,
    ) -> Result<PublicKey, QueryError> {
        let dht = &self.0;
        if peer == dht.node.peer_id() {
            return Ok(dht.identity.clone());
        }
        if let Some(key) = dht.node.public_key(&peer) {
            return Ok(key);
        }
        let from_peer = async {
            let met = dht.node.connect_directly(peer, Vec::new(), deadline).await;
            if met.is_err() {
                dht.locate(peer, deadline).await.ok()?;
            }
            dht.node.public_key(&peer)
        }
        .boxed();
        let from_others = async {
            let key = [PUBLIC_KEY_PREFIX, &peer.to_bytes()].concat();
            let value = dht.best_value(&key, deadline).await.ok()?;
            PublicKey::try_decode_protobuf(&value).ok()
        }
        .boxed();
        let query = async {
            let mut answers = stream::FuturesUnordered::from_iter([from_peer, from_others]);
            while let Some(answer) = answers.next().await {
                if let Some(key) = answer {
                    return Ok(key);
                }
            }
            Err(QueryError::NotFound)
        };
        within(dht, deadline, query).await
    }

    /// The best record for `key`, after asking everybody who could have it.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn get_value(&self, key: Vec<u8>, deadline: Instant) -> Result<Vec<u8>, QueryError> {
        within(&self.0, deadline, self.0.best_value(&key, deadline)).await
    }

    /// Ever better records for `key`. The stream ends at the deadline, too.
    #[must_use]
    pub fn search_value(&self, key: Vec<u8>, deadline: Instant) -> BoxStream<'static, Vec<u8>> {
        let dht = self.0.clone();
        stream_of(&self.0, deadline, move |mut found| async move {
            let mut search = Search::start(&dht, &key, deadline);
            while let Some(better) = search.next().await {
                found.send(better.to_vec()).await.ok()?;
            }
            search.correct();
            Some(())
        })
    }

    /// Stores a record here and at the closest peers. That some of them refuse it is no error.
    ///
    /// # Errors
    /// See [`QueryError`]; after [`QueryError::EmptyTable`] it is held here all the same.
    pub async fn put_value(
        &self,
        key: Vec<u8>,
        value: Vec<u8>,
        deadline: Instant,
    ) -> Result<(), QueryError> {
        let dht = &self.0;
        let value = Bytes::from(value);
        let validated = async {
            dht.validate(Asker::Client, &key, &value).await?;
            let place = dht.place_of(Asker::Client, &key, &value).await?;
            place.ok_or(QueryError::OldRecord)
        };
        let place = timeout_at(deadline, validated).await;
        let place = place.unwrap_or(Err(QueryError::DeadlineExceeded))?;
        let query = async {
            let request = put_request(&key, &value);
            let holder = (Holder::Own, Asker::Client);
            if !dht.put_record(holder, &key, &value, place).await? {
                return Err(QueryError::OldRecord);
            }
            dht.store.flush().await;
            let closest = dht.closest(&key, deadline).await?;
            let puts = closest
                .into_iter()
                .map(|peer| dht.rpc.request(peer, Vec::new(), &request));
            for refused in futures::future::join_all(puts)
                .await
                .into_iter()
                .flat_map(Result::err)
            {
                let error = Chain(&refused);
                tracing::debug!(%error, "record not accepted");
            }
            Ok(())
        };
        within(dht, deadline, query).await
    }
}

impl Inner {
    async fn best_value(
        self: &Arc<Self>,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, QueryError> {
        let mut search = Search::start(self, key, deadline);
        while search.next().await.is_some() {}
        let best = search.found()?;
        search.correct();
        Ok(best.into())
    }
}
