//! What all layers know at one moment: gathered here, told in three ways.
//!
//! Each layer gives a snapshot of its own. [`Sources`] gathers them into a [`Snapshot`]. SIGUSR1
//! prints it in Go's layout (`report`); STATUS, `/status.json` and `rp2pd status` have it as a
//! [`Document`].

mod changes;
pub mod command;
mod document;
mod history;
mod latest;
mod report;
mod table;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::watch;

pub(crate) use document::Document;
pub use history::{History, Traffic};
pub use latest::Latest;

use crate::{
    control::{
        clients,
        clients::Clients,
        context::Reporter,
        tunnels::{self, Tunnels},
    },
    dht::{self, Dht},
    limit_hits,
    memory::{self, Pressure},
    node::{self, Node, Reach},
    pubsub::{self, PubSub},
    relay::{self, AutoRelay, Relay, autorelay},
    wire::maddr::ControlAddr,
};

/// The layers that are asked.
pub struct Sources {
    /// When the daemon began.
    pub started: Instant,
    /// The bound control socket.
    pub control: ControlAddr,
    /// The node.
    pub node: Node,
    /// Local ports that are carried to peers.
    pub tunnels: Arc<Tunnels>,
    /// The DHT, unless it is off.
    pub dht: Option<Dht>,
    /// Pubsub, unless it is off.
    pub pubsub: Option<PubSub>,
    /// The relay service, unless it is off.
    pub relay: Option<Relay>,
    /// The places at relays, unless autorelay is off.
    pub autorelay: Option<AutoRelay>,
    /// The memory in use.
    pub pressure: Arc<Pressure>,
    /// The clients.
    pub clients: Arc<Clients>,
    /// Peers that the node is to be connected to from the start.
    pub bootstrap: Vec<PeerId>,
    /// Whether strangers can dial this node.
    pub reach: watch::Receiver<Reach>,
    /// The traffic of the last minutes.
    pub history: History,
    /// What there may be of each.
    pub capacity: Capacity,
    /// The last document.
    pub latest: Latest,
}

/// The limits of the node, as `-validate` prints them; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Connections.
    pub connections: usize,
    /// Inbound ones among them.
    pub inbound: usize,
    /// Inbound streams.
    pub streams: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Open files.
    pub descriptors: u64,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What is known at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Since the daemon began.
    pub uptime: Duration,
    /// The bound control socket.
    pub control: ControlAddr,
    /// The node.
    pub node: node::Snapshot,
    /// Local ports that are carried to peers.
    pub tunnels: tunnels::Snapshot,
    /// The DHT, unless it is off.
    pub dht: Option<dht::Snapshot>,
    /// Pubsub, unless it is off.
    pub pubsub: Option<pubsub::Snapshot>,
    /// The relay service, unless it is off.
    pub relay: Option<relay::Snapshot>,
    /// The places at relays, unless autorelay is off.
    pub autorelay: Option<autorelay::Snapshot>,
    /// The memory in use.
    pub memory: memory::Snapshot,
    /// The clients.
    pub clients: clients::Snapshot,
    /// How often each limit was reached.
    pub limits: Vec<limit_hits::Count>,
    /// Whether strangers can dial the node.
    pub reach: Reach,
    /// Bootstrap peers that are connected, and all of them.
    pub bootstrap: (usize, usize),
    /// The traffic of the last minutes.
    pub traffic: Traffic,
    /// What there may be of each.
    pub capacity: Capacity,
}

/// The peers that `addresses` name, each once.
#[must_use]
pub fn named_peers(addresses: &[Multiaddr]) -> Vec<PeerId> {
    let mut peers = Vec::new();
    for address in addresses {
        if let Some(Protocol::P2p(peer)) = address.iter().last()
            && !peers.contains(&peer)
        {
            peers.push(peer);
        }
    }
    peers
}

impl Sources {
    /// Asks every layer.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            uptime: self.started.elapsed(),
            control: self.control.clone(),
            node: self.node.snapshot(),
            tunnels: self.tunnels.snapshot(),
            dht: self.dht.as_ref().map(Dht::snapshot),
            pubsub: self.pubsub.as_ref().map(PubSub::snapshot),
            relay: self.relay.as_ref().map(Relay::snapshot),
            autorelay: self.autorelay.as_ref().map(AutoRelay::snapshot),
            memory: self.pressure.snapshot(),
            clients: self.clients.snapshot(),
            limits: limit_hits::snapshot(),
            reach: *self.reach.borrow(),
            bootstrap: self.bootstrap(),
            traffic: self.history.traffic(),
            capacity: self.capacity,
        }
    }

    /// Bootstrap peers that are connected, and all of them.
    #[must_use]
    pub fn bootstrap(&self) -> (usize, usize) {
        let is_connected = |peer: &&PeerId| self.node.is_connected(peer);
        let connected = self.bootstrap.iter().filter(is_connected).count();
        (connected, self.bootstrap.len())
    }

    /// Follows the traffic, and tells the log what has changed, every ten seconds at most. Runs until
    /// dropped.
    pub async fn watch(&self) {
        let mut told = changes::Told::default();
        self.history
            .watch(&self.node, || told.tell(&changes::Seen::of(self)))
            .await;
    }

    /// The document as JSON, not older than a quarter of a second.
    pub async fn json(self: &Arc<Self>) -> Bytes {
        let sources = self.clone();
        let make = move || {
            let document = Document::of(&sources.snapshot());
            serde_json::to_vec(&document).unwrap_or_default().into()
        };
        self.latest.get(make).await
    }
}

impl Reporter for Sources {
    fn status(self: Arc<Self>) -> BoxFuture<'static, Bytes> {
        async move { self.json().await }.boxed()
    }
}
