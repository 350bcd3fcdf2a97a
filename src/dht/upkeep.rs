//! What keeps the routing table alive between queries.

use std::{
    sync::Arc,
    time::{Duration, Instant as Moment},
};

use futures::StreamExt as _;
use libp2p::PeerId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Inner,
    disk::StoredPeer,
    key::Key,
    lookup::Lookup,
    message::{self, Type},
    rpc::RpcError,
};
use crate::wire::frame;

/// Time between two refreshes of the routing table (go-libp2p-kad-dht's default).
const REFRESH_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Time between two rounds of tidying up.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Time for one lookup of a refresh.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);

/// Buckets refreshed by random walks: the sixteen farthest hold nearly everybody, and finding
/// a key for a nearer one takes ever longer.
const MAX_REFRESHED_BUCKET: usize = 15;

/// Peers known from before a restart that are tried.
const MAX_REJOINED: usize = 256;

/// Time to reach one of them.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Silent peers probed at once.
const MAX_PROBES: usize = 10;

impl Inner {
    /// Joins the network again through peers that were `known` before a restart, then sweeps
    /// and refreshes until dropped.
    pub(super) async fn upkeep(self: Arc<Self>, known: Vec<StoredPeer>) {
        if !known.is_empty() {
            self.rejoin(known).await;
        }
        let mut sweeps = interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_refresh = Instant::now() + REFRESH_INTERVAL;
        loop {
            tokio::select! {
                _ = sweeps.tick() => {
                    self.rpc.sweep().await;
                    self.store.expire();
                }
                () = self.refresh_wanted.notified() => next_refresh = Instant::now(),
            }
            if next_refresh <= Instant::now() {
                self.refresh().await;
                next_refresh = Instant::now() + REFRESH_INTERVAL;
            }
        }
    }

    /// Looks up this daemon and a random key for every bucket in use, then probes those that
    /// have not answered since the last refresh.
    async fn refresh(self: &Arc<Self>) {
        let begun = Moment::now();
        for (peer, _) in self.node.streams().peers.list() {
            self.admit_if_serving(&peer);
        }
        let deepest = self.table().by_bucket().last().map(|(bits, _)| bits);
        let Some(deepest) = deepest else { return };
        self.walk(&self.node.peer_id().to_bytes()).await;
        for bits in 0..=deepest.min(MAX_REFRESHED_BUCKET) {
            self.walk(&self.random_key(bits)).await;
        }
        let silent = begun
            .checked_sub(REFRESH_INTERVAL)
            .map(|since| self.table().silent(since))
            .unwrap_or_default();
        let own = frame::encode(&message::request(
            Type::FindNode,
            &self.node.peer_id().to_bytes(),
        ));
        futures::stream::iter(silent)
            .for_each_concurrent(MAX_PROBES, |peer| self.probe(peer, &own))
            .await;
        let peers = self.table().peers();
        for peer in &peers {
            self.store
                .remember_peer(peer, &self.known_info(*peer).addresses);
        }
        tracing::debug!(peers = peers.len(), "DHT table refreshed");
    }

    /// Connects to known peers, whom identify then admits, and refreshes.
    async fn rejoin(self: &Arc<Self>, known: Vec<StoredPeer>) {
        let known = known.into_iter().take(MAX_REJOINED);
        futures::stream::iter(known)
            .for_each_concurrent(MAX_PROBES, |known| async move {
                let StoredPeer {
                    peer, addresses, ..
                } = known;
                let deadline = Instant::now() + REJOIN_TIMEOUT;
                let dialed = self.node.connect_directly(peer, addresses, deadline);
                if let Err(error) = dialed.await {
                    // It stays on disk: perhaps it is this node that is cut off.
                    tracing::debug!(%peer, ?error, "known DHT peer not reached");
                }
            })
            .await;
        self.refresh().await;
    }

    async fn walk(self: &Arc<Self>, key: &[u8]) {
        let request = message::request(Type::FindNode, key);
        let deadline = Instant::now() + REFRESH_TIMEOUT;
        let Ok(mut lookup) = Lookup::start(self, key, &request, deadline) else {
            return;
        };
        let walk = async { while lookup.next().await.is_some() {} };
        let _ = tokio::time::timeout_at(deadline, walk).await;
    }

    async fn probe(&self, peer: PeerId, request: &[u8]) {
        match self.rpc.request(peer, Vec::new(), request).await {
            Ok(_) => self.table().answered(&peer),
            Err(RpcError::Peer(error)) => {
                tracing::debug!(%peer, %error, "silent DHT peer dropped");
                self.drop_peer(&peer);
            }
            Err(RpcError::Own(_)) => {}
        }
    }

    /// A key that shares exactly `bits` leading bits with this daemon's.
    fn random_key(&self, bits: usize) -> [u8; 32] {
        let own = Key::of(&self.node.peer_id().to_bytes());
        loop {
            let key: [u8; 32] = rand::random();
            if Key::of(&key).distance(&own).common_prefix_len() == bits {
                return key;
            }
        }
    }
}
