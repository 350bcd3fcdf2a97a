//! The Kademlia DHT: queries for clients, answers for peers (`/ipfs/kad/1.0.0`).

mod admission;
mod answer;
pub mod disk;
pub(crate) mod fuzzing;
mod key;
mod lookup;
mod message;
mod query;
pub mod record;
mod rpc;
mod server;
mod snapshot;
mod store;
mod table;
mod turns;
mod upkeep;
mod validation;
mod validators;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{Multiaddr, PeerId, identity::PublicKey};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use admission::Checks;
use disk::{Contents, Disk};
pub use record::{KeyBook, RecordError, Unvalidated, Validator};
use rpc::Rpc;
pub use snapshot::{Mode, Snapshot, Usage};
use store::Store;
pub(crate) use store::{MAX_PROVIDER_BYTES, MAX_RECORD_BYTES};
use table::Table;
use turns::Turns;
use validators::Validators;
pub use validators::{ClientValidator, Question, ValidatorError, Verdict};

use crate::{
    fixed_limits::fixed_limit,
    node::{Node, PeerRouting, RoutingError, Standing},
};

/// The protocol between nodes.
pub const PROTOCOL: &str = "/ipfs/kad/1.0.0";

/// Peers of so many of the farthest buckets stay connected: no others lead there
/// (go-libp2p-kad-dht).
const PROTECTED_BUCKETS: usize = 2;

/// What a connection to a peer of the table is worth, besides the bits it shares
/// (COMPATIBILITY.md 4.17).
const TABLE_WORTH: i64 = 5;

/// Queries under way (SECURITY.md 3); further ones wait for their turn.
pub(crate) const MAX_QUERIES: usize = 64;
fixed_limit!("DHT: queries of clients under way", MAX_QUERIES);

/// Corrections of stale holders under way (SECURITY.md 3); further ones are left to the next
/// reader.
const MAX_CORRECTIONS: usize = 64;
fixed_limit!("DHT: stale holders being corrected", MAX_CORRECTIONS);

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
struct Inner {
    node: Node,
    identity: PublicKey,
    table: Mutex<Table>,
    store: Store,
    validator: Validator,
    validators: Arc<Validators>,
    rpc: Rpc,
    turns: Turns,
    checks: Checks,
    queries: Semaphore,
    corrections: Arc<Semaphore>,
    serving: AtomicBool,
    counters: Counters,
    refresh_wanted: Notify,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What has happened so far, for the report.
#[derive(Debug, Default)]
struct Counters {
    /// Requests of peers that were dealt with.
    answered: AtomicU64,
    /// Requests of peers that were not.
    refused: AtomicU64,
    /// Requests to peers that brought no answer.
    failed: AtomicU64,
}

impl Dht {
    /// A node that asks; it answers once told to by [`Dht::set_serving`]. Its own tasks end
    /// when `closing` is cancelled. With a `datastore` it goes on with what that held. Records may
    /// use `share` bytes, and providers as many, where that is less than what they may use anywhere.
    #[must_use]
    pub fn new(
        node: &Node,
        identity: PublicKey,
        validator: Validator,
        share: usize,
        datastore: Option<(Disk, Contents)>,
        closing: CancellationToken,
    ) -> Self {
        let (store, known) = match datastore {
            Some((disk, held)) => Store::restored(share, disk, held),
            None => (Store::new(share), Vec::new()),
        };
        let inner = Arc::new(Inner {
            node: node.clone(),
            identity,
            table: Mutex::new(Table::new(node.peer_id())),
            store,
            validator,
            validators: Arc::default(),
            rpc: Rpc::new(node.clone()),
            turns: Turns::default(),
            checks: Checks::default(),
            queries: Semaphore::new(MAX_QUERIES),
            corrections: Arc::new(Semaphore::new(MAX_CORRECTIONS)),
            serving: AtomicBool::new(false),
            counters: Counters::default(),
            refresh_wanted: Notify::new(),
            tasks: TaskTracker::new(),
            closing,
        });
        let observer = inner.clone();
        let peers = &node.streams().peers;
        peers.observe(Box::new(move |peer, protocols| {
            observer.identified(&peer, protocols);
        }));
        for (peer, _) in peers.list() {
            inner.admit_if_serving(&peer);
        }
        inner.spawn(inner.clone().upkeep(known));
        Self(inner)
    }

    /// Answers other nodes, or no longer.
    pub fn set_serving(&self, serving: bool) {
        self.0.serving.store(serving, Ordering::Relaxed);
        let registry = &self.0.node.streams().registry;
        registry.set_service(PROTOCOL, serving.then(|| self.0.service()));
    }

    /// Fills the routing table in the background.
    pub fn refresh(&self) {
        self.0.refresh_wanted.notify_one();
    }

    /// Writes what is held and closes the datastore, if there is one.
    pub async fn close(&self) {
        self.0.store.close().await;
    }

    /// The node at this moment. Holds the lock of the routing table for a copy of its peers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = &self.0;
        let counters = &inner.counters;
        let (records, providers, unwritten) = inner.store.usage();
        let serving = inner.serving.load(Ordering::Relaxed);
        Snapshot {
            mode: if serving { Mode::Server } else { Mode::Client },
            buckets: inner.table().by_bucket().collect(),
            records,
            providers,
            unwritten,
            queries: MAX_QUERIES.saturating_sub(inner.queries.available_permits()),
            answered: counters.answered.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
        }
    }
}

impl KeyBook for Node {
    fn public_key(&self, peer: &PeerId) -> Option<PublicKey> {
        Self::public_key(self, peer)
    }
}

impl PeerRouting for Dht {
    fn find(
        &self,
        peer: PeerId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Vec<Multiaddr>, RoutingError>> {
        async move {
            match self.find_peer(peer, deadline).await {
                Ok(info) => Ok(info.addresses),
                Err(QueryError::EmptyTable) => Err(RoutingError::EmptyTable),
                Err(QueryError::DeadlineExceeded) => Err(RoutingError::DeadlineExceeded),
                Err(_) => Err(RoutingError::NotFound),
            }
        }
        .boxed()
    }

    fn is_empty(&self) -> bool {
        self.0.table().is_empty()
    }

    fn standing(&self, peer: &PeerId) -> Standing {
        match self.0.table().common_prefix_len(peer) {
            Some(0..PROTECTED_BUCKETS) => Standing::Protected,
            Some(bits) => {
                let bits = i64::try_from(bits).unwrap_or(i64::MAX);
                Standing::Worth(bits.saturating_add(TABLE_WORTH))
            }
            None => Standing::Worth(0),
        }
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Runs a task of the DHT's own until it ends or the daemon does.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            closing.run_until_cancelled(task).await;
        });
    }

    fn own_info(&self) -> PeerInfo {
        PeerInfo {
            id: self.node.peer_id(),
            addresses: self.node.addresses().to_vec(),
        }
    }

    /// What is known here of where a peer is.
    fn known_info(&self, id: PeerId) -> PeerInfo {
        PeerInfo {
            id,
            addresses: self.node.peer_addresses(&id).unwrap_or_default(),
        }
    }

    /// What `teller` says of a peer, without addresses that it may not name
    /// ([`Node::admits`]).
    fn admitted(&self, teller: &PeerId, mut info: PeerInfo) -> PeerInfo {
        let connected = self.node.streams().peers.get(teller);
        let connection = connected.and_then(|peer| peer.best_connection());
        info.addresses.retain(|address| {
            let remote = connection.as_ref().map(|one| &one.remote);
            remote.is_some_and(|remote| self.node.admits(remote, address))
        });
        info
    }

    /// At most `max` providers of `key` that this daemon knows, with its present addresses if it is one.
    fn known_providers(&self, key: &[u8], max: usize) -> Vec<PeerInfo> {
        let mut providers = self.store.providers(key, max);
        for provider in &mut providers {
            if provider.id == self.node.peer_id() {
                provider.addresses = self.node.addresses().to_vec();
            }
        }
        providers
    }
}
