//! The libp2p host: the swarm, the peers it knows, and the handle to ask it with.

mod accept;
pub(crate) mod address_filter;
mod behaviour;
mod book;
mod bootstrap;
mod connmgr;
mod dial;
mod driver;
mod guarded;
mod identify_request;
mod interfaces;
mod limits;
mod listen;
mod options;
mod peer_address;
mod plaintext;
mod protocols;
mod readahead;
mod report;
mod security;
mod shed;
mod tls;
mod transport;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;

use bytes::BytesMut;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    identity::{Keypair, PublicKey},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use address_filter::AddressFilter;
use book::AddressBook;
pub(crate) use book::MAX_PEERS;
pub use bootstrap::{BootstrapError, BootstrapPeers};
use connmgr::ConnectionManager;
pub use connmgr::{Standing, TagError, Watermarks};
pub use dial::{Cause, DialError, RoutingError};
use dial::{NextRace, Origin};
use driver::{Command, Driver};
use guarded::Guarded;
pub use limits::{AddressLimits, ConnectionLimits};
pub(crate) use limits::{CONNECTION_COST, PER_PEER};
pub use listen::ListenError;
use listen::{HostAddresses, Listening};
pub use options::{Options, StartError};
pub use peer_address::PeerIdMismatch;

use crate::{
    identity::contained_key,
    muxer::{Connection, Host},
    streams::{OpenError, Peer, Registry, StreamHost, Streams, UserStream},
};

/// Protocols that the swarm serves and a client may take over, as in Go (COMPATIBILITY.md 4.9).
pub const REPLACEABLE_PROTOCOLS: [&str; 1] = ["/ipfs/ping/1.0.0"];

/// Commands that wait for the swarm's owner; further callers wait to ask.
const MAX_COMMANDS: usize = 256;

/// Between a connection's being established and its task's first turn.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A node that runs.
#[derive(Debug)]
pub struct Started {
    /// To ask it.
    pub node: Node,
    /// The task that owns the swarm. It ends only after `stop`; any other end is fatal.
    pub driver: JoinHandle<()>,
    /// Whether strangers can dial the node, as far as peers have told.
    pub public: watch::Receiver<bool>,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// Addresses that could not be listened on, beside others that could.
    pub failures: Vec<ListenError>,
}

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
    routing: OnceLock<Arc<dyn PeerRouting>>,
    connmgr: Arc<ConnectionManager>,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer could not be reached.
    #[error("failed to dial")]
    Dial(DialError),
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
    pub protocol: String,
    /// The peer's address on the connection in use, without `/p2p/<peer>`.
    pub remote: Multiaddr,
}

impl Node {
    /// Starts a node and waits until it listens.
    ///
    /// # Errors
    /// See [`StartError`]. An address that cannot be listened on is fatal only if none can.
    pub async fn start(
        identity: &Keypair,
        options: &Options,
        streams: Arc<Streams>,
        stop: CancellationToken,
    ) -> Result<Started, StartError> {
        let peer_id = identity.public().to_peer_id();
        let host: Arc<dyn Host> = Arc::new(StreamHost(streams.clone()));
        let next_race = NextRace::default();
        let transport =
            transport::build(identity, options, &host, &next_race).map_err(StartError::Identity)?;
        let alone = behaviour::behaviour(identity, options, &Arc::new(Registry::new(Vec::new())));
        streams.registry.set_library(protocols::served(alone));
        let mut swarm = Swarm::new(
            transport,
            Guarded::new(behaviour::behaviour(identity, options, &streams.registry)),
            peer_id,
            behaviour::swarm_config(),
        );
        let Listening {
            listeners,
            failures,
            notices,
            early,
        } = listen::listen(&mut swarm, &options.listen).await;
        if !options.listen.is_empty() && failures.len() == options.listen.len() {
            return Err(StartError::Listen(failures));
        }
        let addresses = HostAddresses::new(&options.announce);
        addresses.update(&listeners, &mut swarm);
        let book = Arc::new(AddressBook::default());
        let filter = Arc::new(AddressFilter::default());
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let connmgr = Arc::new(ConnectionManager::new(options.watermarks));
        let (public, is_public) = watch::channel(false);
        let driver = Driver::new(driver::Parts {
            swarm,
            streams: streams.clone(),
            book: book.clone(),
            filter: filter.clone(),
            connmgr: connmgr.clone(),
            addresses: addresses.clone(),
            listeners,
            public,
            next_race,
            max_dials: options.limits.pending_outbound,
        });
        #[expect(clippy::disallowed_methods, reason = "the caller gets the handle")]
        let driver = tokio::spawn(driver.run(early, received, stop));
        Ok(Started {
            driver,
            public: is_public,
            node: Self(Arc::new(Inner {
                peer_id,
                commands,
                streams,
                book,
                filter,
                addresses,
                routing: OnceLock::new(),
                connmgr,
            })),
            notices,
            failures,
        })
    }

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

    /// The user streams.
    #[must_use]
    pub fn streams(&self) -> &Arc<Streams> {
        &self.0.streams
    }

    /// Connected peers, each with the remote addresses of its connections.
    #[must_use]
    pub fn peers(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let peers = self.0.streams.peers.list();
        peers
            .into_iter()
            .map(|(id, peer)| {
                let mut addresses: Vec<Multiaddr> = Vec::new();
                for connection in peer.connections() {
                    if !addresses.contains(&connection.remote) {
                        addresses.push(connection.remote.clone());
                    }
                }
                (id, addresses)
            })
            .collect()
    }

    /// The known addresses of a peer; `None` if nothing is known of it.
    #[must_use]
    pub fn peer_addresses(&self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        if *peer == self.0.peer_id {
            return Some(self.addresses().to_vec());
        }
        let addresses = self.0.book.get(peer);
        let known = !addresses.is_empty() || self.0.streams.peers.get(peer).is_some();
        known.then_some(addresses)
    }

    /// Sets who is asked where a peer is. There can be one; a second is ignored.
    pub fn set_routing(&self, routing: Arc<dyn PeerRouting>) {
        let _ = self.0.routing.set(routing);
    }

    /// Remembers addresses that other peers told of a peer, for as long as those a client names.
    pub fn learn(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.0
            .book
            .add(peer, addresses, book::TEMPORARY, Origin::Hearsay);
    }

    /// Whether `address`, told by the peer at `teller` (a connection's remote address), may be
    /// remembered and dialed. See [`address_filter::admits`].
    #[must_use]
    pub fn admits(&self, teller: &Multiaddr, address: &Multiaddr) -> bool {
        self.0.filter.admits(teller, address)
    }

    /// The public key of a peer, if its id contains it or it was met.
    #[must_use]
    pub fn public_key(&self, peer: &PeerId) -> Option<PublicKey> {
        contained_key(peer).or_else(|| self.0.book.key(peer))
    }

    /// Whether there is no connection, or nobody left to ask where others are.
    fn is_isolated(&self) -> bool {
        let lost = |routing: &Arc<dyn PeerRouting>| routing.is_empty();
        self.0.streams.peers.list().is_empty() || self.0.routing.get().is_some_and(lost)
    }

    /// Peers without a connection that this node has dialed with success lately, `max` of them.
    fn recently_connected(&self, max: usize) -> Vec<PeerId> {
        self.0.book.recently_connected(max)
    }

    /// Whether there is a connection to `peer`.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.0.streams.peers.get(peer).is_some()
    }

    /// The protocols of a peer that identify has told, also if it has left since.
    #[must_use]
    pub fn peer_protocols(&self, peer: &PeerId) -> Option<Arc<[String]>> {
        let connected = self.connected_protocols(peer);
        connected.or_else(|| self.0.book.protocols(peer))
    }

    /// The protocols of a connected, identified peer.
    #[must_use]
    pub fn connected_protocols(&self, peer: &PeerId) -> Option<Arc<[String]>> {
        self.0.streams.peers.get(peer)?.protocols()
    }

    /// Connected peers of which identify tells that they speak one of `protocols`.
    #[must_use]
    pub fn peers_speaking(&self, protocols: &[&str]) -> Vec<PeerId> {
        let speaks = |peer: &Peer| {
            let known = peer.protocols().unwrap_or_default();
            known.iter().any(|name| protocols.contains(&name.as_str()))
        };
        let peers = self.0.streams.peers.list();
        let speaking = peers.into_iter().filter(|(_, peer)| speaks(peer));
        speaking.map(|(id, _)| id).collect()
    }

    /// Connects to `peer`, trying `addresses` and those known of it, or else those that the
    /// DHT finds, and waits for identify.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let addresses = self.remember_given(peer, addresses);
        let connected = self.find_and_reach(peer, addresses, deadline).await?;
        identified(&connected, deadline).await
    }

    /// As [`Node::connect`], without asking the DHT.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect_known(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let addresses = self.remember_given(peer, addresses);
        let connected = self.reach(peer, addresses, Origin::Given, deadline).await?;
        identified(&connected, deadline).await
    }

    /// Remembers addresses that a client or the operator names; those that are the peer's own.
    fn remember_given(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let addresses: Vec<_> = addresses
            .into_iter()
            .filter_map(|address| own_address(address, peer))
            .collect();
        let given = addresses.iter().cloned();
        self.0.book.add(peer, given, book::TEMPORARY, Origin::Given);
        addresses
    }

    /// As [`Node::connect_known`], at addresses that other peers told.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect_directly(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let connected = self
            .reach(peer, addresses, Origin::Hearsay, deadline)
            .await?;
        identified(&connected, deadline).await
    }

    /// As [`Node::reach`]; asks the DHT if no address is known, and once more if all that are
    /// known fail, as Go does.
    async fn find_and_reach(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<Arc<Peer>, DialError> {
        let failed = match self.reach(peer, addresses, Origin::Given, deadline).await {
            Err(error @ (DialError::NoAddresses(_) | DialError::AllFailed(..))) => error,
            done => return done,
        };
        let Some(routing) = self.0.routing.get() else {
            return Err(failed);
        };
        let found = match (routing.find(peer, deadline).await, &failed) {
            (Ok(found), _) => found,
            (Err(error), DialError::NoAddresses(_)) => return Err(DialError::Routing(error)),
            (Err(_), _) => return Err(failed),
        };
        if let DialError::AllFailed(_, causes) = &failed
            && found
                .iter()
                .all(|address| causes.iter().any(|(tried, _)| tried == address))
            && !self.is_connected(&peer)
        {
            return Err(failed);
        }
        self.reach(peer, found, Origin::Hearsay, deadline).await
    }

    /// The connected peer, after dialing it if need be.
    async fn reach(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
        deadline: Instant,
    ) -> Result<Arc<Peer>, DialError> {
        if peer == self.0.peer_id {
            return Err(DialError::ToSelf);
        }
        if let Some(connected) = self.0.streams.peers.get(&peer) {
            return Ok(connected);
        }
        let peers = &self.0.streams.peers;
        let dial = async {
            loop {
                let changed = peers.changed();
                tokio::pin!(changed);
                changed.as_mut().enable();
                self.dial(peer, addresses.clone(), origin).await?;
                if let Some(connected) = peers.get(&peer) {
                    return Ok(connected);
                }
                // The connection's task has not had its first turn yet, or it has had its
                // last and the swarm does not know: then it is dialed again.
                tokio::time::timeout(CONNECTION_TIMEOUT, changed)
                    .await
                    .map_err(|_| DialError::ConnectionFailed)?;
            }
        };
        timeout_at(deadline, dial)
            .await
            .map_err(|_| DialError::DeadlineExceeded)?
    }

    /// Asks the driver for a connection. The dial ends when the last of those who wait for it
    /// has dropped this future.
    async fn dial(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
    ) -> Result<(), DialError> {
        let (reply, answer) = oneshot::channel();
        let (_waiting, gone) = oneshot::channel();
        let command = Command::Dial {
            peer,
            addresses,
            origin,
            reply,
            gone,
        };
        let sent = self.0.commands.send(command).await;
        sent.map_err(|_| DialError::ConnectionFailed)?;
        answer.await.map_err(|_| DialError::ConnectionFailed)?
    }

    /// Closes every connection to `peer` and waits until they are closed.
    pub async fn disconnect(&self, peer: PeerId) {
        let (reply, answer) = oneshot::channel();
        if self
            .0
            .commands
            .send(Command::Disconnect { peer, reply })
            .await
            .is_ok()
        {
            // An error means the node is stopping, which closes everything.
            let _ = answer.await;
        }
    }

    /// Opens a stream to `peer` on the first of `protocols` that it speaks, dialing it if
    /// need be. On a live connection the swarm is not involved.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open_stream(
        &self,
        peer: PeerId,
        protocols: &[String],
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
        let opening = self.0.streams.open(&connection, &known, protocols);
        let (stream, protocol) = timeout_at(deadline, opening)
            .await
            .map_err(|_| StreamError::NegotiationTimeout)?
            .map_err(StreamError::Open)?;
        Ok(OpenedStream {
            stream,
            protocol,
            remote: connection.remote.clone(),
        })
    }

    /// Opens a stream on a protocol of the daemon's own to `peer`, trying `addresses` and those
    /// known of it. Waits neither for identify nor for the peer's consent: a refusal is an error
    /// of the first read.
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
        let connected = self
            .reach(peer, addresses, Origin::Hearsay, deadline)
            .await
            .map_err(StreamError::Dial)?;
        let connection = connected
            .best_connection()
            .ok_or(StreamError::Dial(DialError::ConnectionFailed))?;
        let names = [protocol.to_owned()];
        let (stream, _) = timeout_at(deadline, self.0.streams.open(&connection, &names, &names))
            .await
            .map_err(|_| StreamError::NegotiationTimeout)?
            .map_err(StreamError::Open)?;
        Ok(stream)
    }

    /// As [`Node::open_stream`] for one call; see [`Streams::open_call`].
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn open_call(
        &self,
        peer: PeerId,
        protocol: &str,
        deadline: Instant,
    ) -> Result<(UserStream, BytesMut), StreamError> {
        let connected = self
            .find_and_reach(peer, Vec::new(), deadline)
            .await
            .map_err(StreamError::Dial)?;
        let (_, connection) = ready(&connected, deadline).await?;
        let opening = self.0.streams.open_call(&connection, &connected, protocol);
        timeout_at(deadline, opening)
            .await
            .map_err(|_| StreamError::NegotiationTimeout)?
            .map_err(StreamError::Open)
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

async fn identified(peer: &Peer, deadline: Instant) -> Result<(), DialError> {
    timeout_at(deadline, peer.identified())
        .await
        .map_err(|_| DialError::DeadlineExceeded)?;
    if let Some(reason) = peer.unreadable() {
        return Err(DialError::Unidentified(reason));
    }
    // It may have left instead.
    peer.best_connection()
        .map(drop)
        .ok_or(DialError::ConnectionFailed)
}

/// `address` without `/p2p/<peer>`, or nothing if it names another peer (COMPATIBILITY.md 4.5).
fn own_address(address: Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    let address = peer_address::strip_peer(address, peer);
    match address.iter().last() {
        Some(libp2p::multiaddr::Protocol::P2p(_)) | None => None,
        Some(_) => Some(address),
    }
}
