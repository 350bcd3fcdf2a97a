//! The nine queries of clients: here those about peers and providers.

mod search;
mod value;

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    channel::mpsc,
    stream::{self, BoxStream},
};
use libp2p::PeerId;
use tokio::time::{Instant, timeout_at};

use super::{
    Dht, Inner, PeerInfo, QueryError,
    answer::{self, MAX_ANSWER},
    lookup::Lookup,
    message::{self, Type},
    store::Holder,
};
use crate::{fixed_limits::fixed_limit, limit_hits::Limit, telemetry::Chain, wire::frame};

/// Found and not yet taken by the client; the query then waits.
const MAX_FOUND: usize = 16;

/// Providers told to a client at most, whatever it asks for (SECURITY.md 3).
const MAX_COUNT: usize = 1000;
fixed_limit!("DHT: providers told to a client", MAX_COUNT);

/// Of the time for PROVIDE, what is kept for the announcement itself (go-libp2p-kad-dht): a
/// tenth, at most this long.
const MAX_RESERVE: Duration = Duration::from_secs(1);

/// Runs a query until its deadline, at its turn.
async fn within<T>(
    dht: &Inner,
    deadline: Instant,
    query: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    let at_its_turn = async {
        if dht.queries.available_permits() == 0 {
            Limit::DhtQueries.hit();
        }
        let _place = dht.queries.acquire().await;
        query.await
    };
    timeout_at(deadline, at_its_turn)
        .await
        .unwrap_or(Err(QueryError::DeadlineExceeded))
}

/// What a query finds as it finds it, until its deadline.
fn stream_of<T, F>(
    dht: &Arc<Inner>,
    deadline: Instant,
    query: impl FnOnce(mpsc::Sender<T>) -> F + Send + 'static,
) -> BoxStream<'static, T>
where
    T: Send + 'static,
    F: Future<Output = Option<()>> + Send + 'static,
{
    let (sender, found) = mpsc::channel(MAX_FOUND);
    let dht = dht.clone();
    let run = async move {
        // Whatever ends the query, the stream ends.
        let _ = within(&dht, deadline, query(sender).map(Ok)).await;
        None
    };
    let run = stream::once(run.boxed()).filter_map(futures::future::ready);
    stream::select(found, run).boxed()
}

impl Dht {
    /// Where `peer` is. If it can be reached it is connected afterwards.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn find_peer(&self, peer: PeerId, deadline: Instant) -> Result<PeerInfo, QueryError> {
        let dht = &self.0;
        if dht.node.is_connected(&peer) {
            let info = timeout_at(deadline, dht.reached_info(peer)).await;
            return info.map_err(|_| QueryError::DeadlineExceeded);
        }
        within(dht, deadline, dht.locate(peer, deadline)).await
    }

    /// At most `count` providers of `key`, a multihash, as they are found; those known here
    /// come first. A provider comes again only if it had no addresses before. The stream ends
    /// at the deadline, too.
    #[must_use]
    pub fn find_providers(
        &self,
        key: Vec<u8>,
        count: usize,
        deadline: Instant,
    ) -> BoxStream<'static, PeerInfo> {
        let dht = self.0.clone();
        let count = count.min(MAX_COUNT);
        stream_of(&self.0, deadline, move |mut found| async move {
            let mut told: HashMap<PeerId, bool> = HashMap::new();
            let mut tell = async |mut info: PeerInfo| {
                // What the peer itself has said counts for more than what others say of it.
                let known = dht.known_info(info.id).addresses;
                let is_known = !known.is_empty();
                if is_known && (info.addresses.is_empty() || dht.node.is_connected(&info.id)) {
                    info.addresses = known;
                }
                let addressed = !info.addresses.is_empty();
                let before = told.get(&info.id).copied();
                if before.is_none_or(|before| addressed && !before) {
                    told.insert(info.id, addressed);
                    if !is_known {
                        dht.node.learn(info.id, info.addresses.clone());
                    }
                    found.send(info).await.ok()?;
                }
                (told.len() < count).then_some(())
            };
            for info in dht.known_providers(&key, count) {
                tell(info).await?;
            }
            let request = message::request(Type::GetProviders, &key);
            let mut lookup = Lookup::start(&dht, &key, &request, deadline).ok()?;
            while let Some((teller, answer)) = lookup.next().await {
                for info in message::providers(&answer) {
                    tell(dht.admitted(&teller, info)).await?;
                }
            }
            Some(())
        })
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
        if key.is_empty() {
            return Err(QueryError::EmptyKey);
        }
        within(&self.0, deadline, self.0.closest(key, deadline)).await
    }

    /// Announces at the closest peers that this daemon provides `key`, a multihash, and returns
    /// when they have been told.
    ///
    /// # Errors
    /// See [`QueryError`]; after [`QueryError::EmptyTable`] this daemon tells those who ask it
    /// all the same.
    pub async fn provide(&self, key: Vec<u8>, deadline: Instant) -> Result<(), QueryError> {
        let dht = &self.0;
        let own = dht.own_info();
        let mut announcement = message::request(Type::AddProvider, &key);
        announcement.provider_peers =
            answer::peers(&[(own.clone(), true)], &mut MAX_ANSWER.clone());
        let announcement = frame::encode(&announcement);
        dht.store.put_provider(Holder::Own, &key, own);
        let time = deadline.saturating_duration_since(Instant::now());
        let until = deadline - (time / 10).min(MAX_RESERVE);
        let query = async {
            dht.store.flush().await;
            let request = message::request(Type::FindNode, &key);
            let mut lookup = Lookup::start(dht, &key, &request, until)?;
            let walk = async { while lookup.next().await.is_some() {} };
            let finished = timeout_at(until, walk).await;
            let tells = lookup
                .closest()
                .into_iter()
                .map(|peer| dht.rpc.tell(peer, &announcement));
            for failed in futures::future::join_all(tells)
                .await
                .into_iter()
                .flat_map(Result::err)
            {
                let error = Chain(&failed);
                tracing::debug!(%error, "provider not announced");
            }
            finished.map_err(|_| QueryError::DeadlineExceeded)
        };
        within(dht, deadline, query).await
    }
}

impl Inner {
    /// Where a connected peer is, once identify has told.
    async fn reached_info(&self, peer: PeerId) -> PeerInfo {
        if let Some(connected) = self.node.streams().peers.get(&peer) {
            connected.identified().await;
        }
        self.known_info(peer)
    }

    /// Walks towards `peer` until it is reached, or everybody has been asked.
    async fn locate(
        self: &Arc<Self>,
        peer: PeerId,
        deadline: Instant,
    ) -> Result<PeerInfo, QueryError> {
        let key = peer.to_bytes();
        let request = message::request(Type::FindNode, &key);
        let mut lookup = Lookup::start(self, &key, &request, deadline)?.seek(peer);
        if peer == self.node.peer_id() {
            return Ok(self.own_info());
        }
        while lookup.next().await.is_some() {
            if self.node.is_connected(&peer) {
                let mut info = self.reached_info(peer).await;
                if info.addresses.is_empty() {
                    info.addresses = lookup.addresses(&peer);
                }
                return Ok(info);
            }
        }
        let addresses = lookup.addresses(&peer);
        if addresses.is_empty() {
            return Err(QueryError::NotFound);
        }
        // Known to others, though not reachable from here at this moment.
        self.node.learn(peer, addresses.clone());
        Ok(PeerInfo {
            id: peer,
            addresses,
        })
    }

    async fn closest(
        self: &Arc<Self>,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Vec<PeerId>, QueryError> {
        let request = message::request(Type::FindNode, key);
        let mut lookup = Lookup::start(self, key, &request, deadline)?;
        while lookup.next().await.is_some() {}
        Ok(lookup.closest())
    }
}
