//! Reaching peers: which addresses are dialed when, and why a peer could not be reached.

mod names;
mod peer_dial;
mod punches;
mod race;
mod ranking;
mod resolved;
mod scheduler;
mod shared_error;
mod target;

use std::{error::Error, io, net::SocketAddr, sync::Arc};

use libp2p::{
    Multiaddr, PeerId, TransportError, multiaddr::Protocol, swarm::DialError as SwarmError,
};

pub(super) use names::{NO_ANSWER, Names, is_name};
pub(super) use peer_dial::Reply;
pub use punches::Manner;
pub(super) use punches::{Attempt, Punch, Punches};
pub(super) use race::{NextRace, Race, Raced};
pub(super) use ranking::History;
pub(super) use scheduler::{Dials, Due, Start};
pub use shared_error::SharedError;
pub(super) use target::{Candidate, Origin};

use scheduler::MAX_PER_PEER;

use super::peer_address::{PeerIdMismatch, strip_peer};
use crate::{
    metrics,
    telemetry::Chain,
    wire::carrier::{ip_version, transport_name},
};

/// Why a peer could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The peer is this daemon.
    #[error("dial to self attempted")]
    ToSelf,
    /// No address of the peer is known.
    #[error("no addresses of {0}")]
    NoAddresses(PeerId),
    /// Every address failed.
    #[error("all dials to {peer} failed: {causes}", peer = .0, causes = listed(.1))]
    AllFailed(PeerId, Vec<(Multiaddr, Cause)>),
    /// No address of the peer is known, and the DHT knows none either.
    #[error("no addresses known")]
    Routing(#[source] RoutingError),
    /// A limit of this daemon forbade the connection.
    #[error("{0}")]
    Denied(String),
    /// The caller's deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// The peer is connected, and its identify message cannot be read.
    #[error("identify failed: {0}")]
    Unidentified(Arc<str>),
    /// The daemon is stopping, or the connection was lost as soon as it was made.
    #[error("connection failed")]
    ConnectionFailed,
}

fn listed(failures: &[(Multiaddr, Cause)]) -> String {
    let failures = failures.iter().take(MAX_LOGGED);
    let texts: Vec<String> = failures
        .map(|(address, cause)| format!("[{address}] {}", Chain(cause)))
        .collect();
    texts.join(", ")
}

/// Failed addresses in one line of the log.
const MAX_LOGGED: usize = 8;

/// Why the DHT does not know where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// It has nobody to ask.
    #[error("the routing table is empty")]
    EmptyTable,
    /// Nobody knew.
    #[error("not found")]
    NotFound,
    /// The caller's deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
}

/// Why one address failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The operating system refused; the second part is its reason.
    #[error("{2}")]
    Socket(Option<SocketAddr>, io::ErrorKind, String),
    /// No answer in time.
    #[error("i/o timeout")]
    TimedOut,
    /// No transport here takes such an address.
    #[error("no transport for protocol")]
    NoTransport,
    /// Another peer answered.
    #[error(transparent)]
    PeerIdMismatch(PeerIdMismatch),
    /// A name does not resolve.
    #[error("{0}")]
    Name(String),
    /// Another dial to the peer completed first, or nobody waited any more.
    #[error("cancelled")]
    Cancelled,
    /// There is no circuit to the peer.
    #[error(transparent)]
    Circuit(CircuitError),
    /// Anything else, innermost reason.
    #[error("{0}")]
    Other(String),
}

/// Why a circuit was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CircuitError {
    /// The address names no relay.
    #[error("no relay in the address")]
    NoRelay,
    /// The address of the relay, here without its peer id, does not say who it is.
    #[error("the relay at {0} has no peer id")]
    NoRelayId(Multiaddr),
    /// The way leads through several relays, or the relay is the destination.
    #[error("a circuit through a circuit, or to its relay")]
    Loop,
    /// The relay could not be reached.
    #[error("the relay could not be reached")]
    Relay(#[source] Box<DialError>),
    /// The relay does not speak the protocol of relays.
    #[error("the peer is no relay")]
    NotSpoken,
    /// The connection to the relay failed.
    #[error("the stream to the relay failed")]
    Stream(#[source] SharedError),
    /// This node opens no circuits.
    #[error("circuits are not opened here")]
    Off,
    /// The relay did not agree on the protocol in time.
    #[error("no stream to the relay in time")]
    Open,
    /// The relay has not answered in time.
    #[error("the relay did not answer in time")]
    DeadlineExceeded,
    /// The relay answers something else than a status. That was its message's kind.
    #[error("the relay answers with a message of type {0}")]
    Unexpected(i32),
    /// The relay's refusal: its status, and what the specification calls it.
    #[error("the relay refuses with status {0}")]
    Refused(i32, &'static str),
}

impl DialError {
    pub(super) fn from_swarm(error: &SwarmError, peer: PeerId) -> Self {
        match error {
            SwarmError::LocalPeerId { .. } => Self::ToSelf,
            SwarmError::NoAddresses => Self::NoAddresses(peer),
            SwarmError::WrongPeerId { obtained, address } => {
                let mismatch = PeerIdMismatch {
                    expected: peer,
                    actual: *obtained,
                };
                let failed = (
                    strip_peer(address.clone(), peer),
                    Cause::PeerIdMismatch(mismatch),
                );
                Self::AllFailed(peer, vec![failed])
            }
            SwarmError::Denied { cause } => Self::Denied(innermost(cause)),
            SwarmError::Aborted | SwarmError::DialPeerConditionFalse(_) => Self::ConnectionFailed,
            SwarmError::Transport(errors) => Self::AllFailed(
                peer,
                errors
                    .iter()
                    .map(|(address, error)| {
                        let address = strip_peer(address.clone(), peer);
                        let cause = Cause::from_transport(error, &address);
                        (address, cause)
                    })
                    .collect(),
            ),
        }
    }
}

impl Cause {
    /// Counts that `address` could not be dialed.
    pub(super) fn count(&self, address: &Multiaddr) {
        let error = match self {
            Self::TimedOut => metrics::DialFailure::Timeout,
            Self::Socket(_, io::ErrorKind::ConnectionRefused, _) => metrics::DialFailure::Refused,
            Self::Cancelled => metrics::DialFailure::Superseded,
            _ => metrics::DialFailure::Other,
        };
        let swarm = &metrics::metrics().swarm;
        swarm.dial_failed(transport_name(address), ip_version(address), error);
    }

    pub(super) fn from_transport(error: &TransportError<io::Error>, address: &Multiaddr) -> Self {
        match error {
            TransportError::MultiaddrNotSupported(_) => Self::NoTransport,
            TransportError::Other(error) => Self::from_chain(error, address),
        }
    }

    /// The transports wrap each other's errors; the cause is somewhere down the chain.
    fn from_chain(error: &io::Error, address: &Multiaddr) -> Self {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        let mut last = error.to_string();
        // Bounded: a chain that refers to itself must not hang the driver.
        for _ in 0..32 {
            let Some(current) = next else { break };
            last = current.to_string();
            if current.is::<race::Superseded>() {
                return Self::Cancelled;
            }
            if let Some(error) = current.downcast_ref::<CircuitError>() {
                return Self::Circuit(error.clone());
            }
            if let Some(mismatch) = current.downcast_ref::<PeerIdMismatch>() {
                return Self::PeerIdMismatch(*mismatch);
            }
            next = match current.downcast_ref::<io::Error>() {
                Some(io) if io.kind() == io::ErrorKind::TimedOut => return Self::TimedOut,
                Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
                None => current.source(),
            };
        }
        // Some wrappers show their cause in text only.
        if last == "Timeout has been reached" || last.ends_with("timed out") {
            return Self::TimedOut;
        }
        if last.contains("Unsupported resolved address") {
            return Self::NoTransport;
        }
        match system_error(&last) {
            Some(error) => Self::Socket(socket_addr(address), error.kind(), last),
            None => Self::Other(last),
        }
    }
}

/// The operating system's error that a text such as `Connection refused (os error 111)`
/// speaks of.
fn system_error(text: &str) -> Option<io::Error> {
    let (_, code) = text.rsplit_once("(os error ")?;
    let code = code.strip_suffix(')')?.parse().ok()?;
    Some(io::Error::from_raw_os_error(code))
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
