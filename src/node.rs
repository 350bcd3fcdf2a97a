//! The libp2p host: the swarm, the peers it knows, and the handle to ask it with.

mod accept;
pub(crate) mod address_filter;
mod behaviour;
mod book;
mod bootstrap;
mod circuit;
mod connect;
mod connmgr;
mod dial;
mod dial_back;
mod driver;
mod follow;
mod forward;
mod guarded;
mod host_addresses;
mod identify_request;
mod interfaces;
mod known_peers;
mod limits;
mod listen;
mod misbehaviour;
mod open_stream;
mod options;
mod peer_address;
mod peer_socket;
mod peerstore;
mod plaintext;
mod probe;
mod protocols;
mod punch;
mod reach;
mod readahead;
pub mod rules;
mod security;
mod shared_port;
mod shed;
mod snapshot;
mod start;
mod steering;
mod thin_waist;
mod timed;
mod tls;
mod told_identity;
mod transport;
mod upgrades;
mod websocket;
mod zoned;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use address_filter::AddressFilter;
use book::AddressBook;
pub use book::KnownAddress;
pub use bootstrap::{BootstrapError, BootstrapPeers};
use circuit::CircuitPort;
pub use circuit::{CircuitDialer, InboundCircuit};
use connmgr::ConnectionManager;
pub use connmgr::{PeerTags, Standing, TagError, Watermarks};
pub use dial::{Cause, CircuitError, DialError, Manner, RoutingError, SharedError};
pub use dial_back::DialBack;
use driver::Command;
pub use host_addresses::AnnounceError;
use host_addresses::HostAddresses;
pub(crate) use host_addresses::MAX_CIRCUITS;
pub use host_addresses::Port;
pub(crate) use interfaces::addresses as interface_addresses;
pub use limits::{AddressLimits, ConnectionLimits};
pub(crate) use limits::{CONNECTION_COST, PER_PEER};
pub use listen::{ListenError, ListenerInfo, ListenersError};
pub use open_stream::{OpenedStream, StreamError};
pub use options::{Options, StartError};
pub use peer_address::{PeerIdMismatch, is_relayed, through};
pub use peerstore::{PeerQuery, PeerRecord};
use probe::Prober;
pub use probe::{ProbeError, Probed};
pub use reach::Reach;
use reach::Reachability;
use rules::Rules;
pub use security::IdentityUnfit;
pub(crate) use shared_port::ports as shared_ports;
use shed::Leaving;
pub use snapshot::{ConnectionSnapshot, PeerSnapshot, Snapshot};
pub use start::Started;
pub use tls::TlsError;
pub use transport::TransportUnfit;

use crate::{
    events::{Event, Events, Kind},
    streams::Streams,
};

/// Protocols that the swarm serves and a client may take over, as in Go (COMPATIBILITY.md 4.9).
pub const REPLACEABLE_PROTOCOLS: [&str; 1] = ["/ipfs/ping/1.0.0"];

/// Finds peers whose addresses are not known here.
pub trait PeerRouting: fmt::Debug + Send + Sync {
    /// The addresses of `peer`.
    fn find(
        &self,
        peer: PeerId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Vec<Multiaddr>, RoutingError>>;

    /// Whether nobody is known who could be asked.
    fn is_empty(&self) -> bool;

    /// What a connection to `peer` is worth.
    fn standing(&self, peer: &PeerId) -> Standing;
}

/// A handle to the node, cheap to clone.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    streams: Arc<Streams>,
    book: Arc<AddressBook>,
    filter: Arc<AddressFilter>,
    addresses: HostAddresses,
    reachability: Arc<Reachability>,
    routing: OnceLock<Arc<dyn PeerRouting>>,
    circuits: CircuitPort,
    connmgr: Arc<ConnectionManager>,
    prober: Prober,
    rules: Rules,
    events: Events,
    leaving: Leaving,
}

impl Node {
    /// This daemon's peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// This daemon's addresses at this moment.
    #[must_use]
    pub fn addresses(&self) -> Arc<[Multiaddr]> {
        self.0.addresses.get()
    }

    /// This daemon's addresses, as they change.
    #[must_use]
    pub fn watch_addresses(&self) -> watch::Receiver<Arc<[Multiaddr]>> {
        self.0.addresses.subscribe()
    }

    /// Where this daemon can be dialed without a relay, if anywhere: what it would tell if it
    /// were known to be public.
    #[must_use]
    pub fn direct_addresses(&self) -> Vec<Multiaddr> {
        self.0.addresses.direct()
    }

    /// Public addresses at which at least `observers` hosts see this daemon.
    #[must_use]
    pub fn observed_addresses(&self, observers: usize) -> Vec<Multiaddr> {
        self.0.addresses.observed(observers)
    }

    /// Whether any peer sees this daemon at a public address, as that changes.
    #[must_use]
    pub fn watch_seen(&self) -> watch::Receiver<bool> {
        self.0.addresses.subscribe_seen()
    }

    /// Tells `addresses` instead of those that are listened on or were found, from now on; those
    /// again if it is empty.
    pub fn set_announced(&self, addresses: Vec<Multiaddr>) {
        self.0.addresses.set_announced(addresses);
    }

    /// Addresses that are told instead of those that are listened on or were found.
    #[must_use]
    pub fn announced(&self) -> Vec<Multiaddr> {
        self.0.addresses.announced()
    }

    /// Adds addresses to those.
    ///
    /// # Errors
    /// See [`AnnounceError`]. Nothing is added then.
    pub fn announce(&self, addresses: &[Multiaddr]) -> Result<(), AnnounceError> {
        self.0.addresses.announce(addresses)
    }

    /// Removes addresses from those.
    ///
    /// # Errors
    /// See [`AnnounceError`]. Nothing is removed then.
    pub fn unannounce(&self, addresses: &[Multiaddr]) -> Result<(), AnnounceError> {
        self.0.addresses.unannounce(addresses)
    }

    /// Tells `addresses` of circuits while private, if the daemon was started with autorelay.
    pub fn set_circuits(&self, addresses: Vec<Multiaddr>) {
        self.0.addresses.set_circuits(addresses);
    }

    /// Whether there are relays through which this daemon can be reached.
    #[must_use]
    pub fn has_circuits(&self) -> bool {
        self.0.addresses.has_circuits()
    }

    /// Tells the public addresses at which a router forwards to ports of this host.
    pub fn set_mapped(&self, mapped: Vec<(Port, SocketAddr)>) {
        self.0.addresses.set_mapped(mapped);
    }

    /// The ports that are listened on at IPv4 addresses that `wanted` wants, none twice.
    #[must_use]
    pub fn listened_ports(&self, wanted: impl Fn(Ipv4Addr) -> bool) -> Vec<Port> {
        self.0.addresses.ports(wanted)
    }

    /// Whether strangers can dial this daemon, as that changes.
    #[must_use]
    pub fn watch_reach(&self) -> watch::Receiver<Reach> {
        self.0.reachability.subscribe()
    }

    /// Takes note of whether strangers can dial this daemon, unless the operator has said it.
    pub fn set_reach(&self, reach: Reach) {
        let before = *self.0.reachability.subscribe().borrow();
        let holds = self.0.reachability.set(reach);
        self.0.addresses.set_reach(holds);
        if holds != before {
            let told = || Event::Reachability(holds.into());
            self.0.events.tell(Kind::Reachability, told);
        }
    }

    /// When a peer with a public address last connected to this daemon, if ever.
    #[must_use]
    pub fn last_inbound(&self) -> Option<std::time::Instant> {
        self.0.reachability.last_inbound()
    }

    /// The user streams.
    #[must_use]
    pub fn streams(&self) -> &Arc<Streams> {
        &self.0.streams
    }

    /// Waits until the task that owns the swarm has taken a turn. If that task hangs, for ever;
    /// if it is gone, not at all.
    pub async fn take_turn(&self) {
        let (reply, answer) = oneshot::channel();
        if self.0.commands.send(Command::Turn(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Sets who is asked where a peer is. There can be one; a second is ignored.
    pub fn set_routing(&self, routing: Arc<dyn PeerRouting>) {
        let _ = self.0.routing.set(routing);
    }
}
