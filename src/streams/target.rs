//! Who serves inbound streams.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::Semaphore;

use super::{name::ProtocolName, negotiate::UserStream};
use crate::{memory::Account, muxer::Connection, wire::maddr::ControlAddr};

/// An inbound stream whose protocol somebody here handles.
#[derive(Debug)]
pub struct InboundStream {
    /// The remote peer.
    pub peer: PeerId,
    /// Its address on the connection the stream came on, without `/p2p/<peer>`.
    pub remote: Multiaddr,
    /// The connection the stream came on.
    pub connection: Arc<Connection>,
    /// The agreed protocol.
    pub protocol: ProtocolName,
    /// The bytes.
    pub stream: UserStream,
    /// Handlers to try, in this order; never empty.
    pub targets: Targets,
    /// The peer's turns to have handlers connected to.
    pub dials: Arc<Semaphore>,
    /// What is held because of the peer is charged here.
    pub account: Arc<Account>,
}

/// Handlers in the order in which to try them. Each is looked up when the one before has failed.
pub struct Targets(Box<dyn Iterator<Item = Target> + Send>);

impl Targets {
    pub(super) fn new(targets: impl Iterator<Item = Target> + Send + 'static) -> Self {
        Self(Box::new(targets))
    }
}

impl Iterator for Targets {
    type Item = Target;

    fn next(&mut self) -> Option<Target> {
        self.0.next()
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Targets")
    }
}

/// Serves an inbound stream to its end.
pub type Serve = Box<dyn Fn(InboundStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOrigin {
    /// A unix control socket: the client's user.
    User(u32),
    /// A tcp control socket.
    Tcp {
        /// The client's address, not mapped to IPv6.
        ip: IpAddr,
        /// Whether the client is on this machine.
        local: bool,
    },
}

/// A client's listening socket. Sockets at one address are the same, whoever has named it: any
/// client may remove a handler, as in Go.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Where it listens.
    pub addr: ControlAddr,
    /// Who has registered it.
    pub origin: RequestOrigin,
}

impl PartialEq for Listening {
    fn eq(&self, other: &Self) -> bool {
        self.addr == other.addr
    }
}

impl Eq for Listening {}

impl Hash for Listening {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.addr.hash(state);
    }
}

/// Who serves an inbound stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A client's listening socket.
    Socket(Listening),
    /// A client that answers calls on its persistent connection.
    Persistent(PersistentId),
    /// The daemon sends back what it receives.
    Echo,
    /// As [`Target::Echo`], for liveness checks: nobody waits for such a stream to end.
    Ping,
    /// A part of the daemon. Clients cannot take its protocol over.
    Service(Service),
}

/// Names a persistent connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PersistentId(pub u64);

/// Handlers of streams and handlers of calls do not count as each other's rivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Streams,
    Calls,
}

impl Target {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Socket(_) | Self::Echo | Self::Ping | Self::Service(_) => Kind::Streams,
            Self::Persistent(_) => Kind::Calls,
        }
    }

    /// Served by the daemon until a client takes the protocol over, as in Go.
    pub(super) fn is_builtin(&self) -> bool {
        matches!(self, Self::Echo | Self::Ping)
    }
}

/// A part of the daemon that serves a protocol.
#[derive(Clone)]
pub struct Service(Arc<Server>);

struct Server {
    serve: Serve,
    lasting: bool,
}

impl Service {
    /// A service that answers streams with `serve`. Peers keep such streams open without using
    /// them, so a connection that has no others is idle. They are dropped once no streams are
    /// taken any more.
    #[must_use]
    pub fn new(serve: Serve) -> Self {
        let lasting = false;
        Self(Arc::new(Server { serve, lasting }))
    }

    /// A service whose streams carry payload of peers: a connection with one of them is in use.
    /// `serve` has to end by itself once no streams are taken any more.
    #[must_use]
    pub fn lasting(serve: Serve) -> Self {
        let lasting = true;
        Self(Arc::new(Server { serve, lasting }))
    }

    pub(super) fn is_lasting(&self) -> bool {
        self.0.lasting
    }

    pub(super) fn serve(&self, stream: InboundStream) -> BoxFuture<'static, ()> {
        (self.0.serve)(stream)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Service {}

impl Hash for Service {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
