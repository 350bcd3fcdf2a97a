//! The transports: tcp, websocket and quic, under dns, with one rule for wrong peers.

use std::{io, sync::Arc, time::Duration};

use futures::future::ready;
use libp2p::{
    PeerId, Transport as _, TransportError,
    core::{
        ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, OptionalTransport, dummy::DummyTransport, timeout::TransportTimeout},
    },
    dns,
    identity::Keypair,
    multiaddr::Protocol as Part,
    quic, tcp,
};

use super::{
    Options,
    accept::Accept,
    circuit::Circuits,
    dial::{NextRace, Raced},
    limits::{Admission, Gate},
    peer_address::{PeerIdMismatch, remote_address},
    peer_socket::PeerSocket,
    readahead::ReadAhead,
    security::{Channel, IdentityUnfit, Security},
    shared_port::{self, Listened, SharedPorts, Sniff, Websockets},
    timed::Timed,
    upgrades::{UPGRADE_TIMEOUT, Upgrades},
    zoned::Zoned,
};
use crate::{
    fixed_limits::fixed_limit,
    metrics::{Carrier, metrics},
    muxer::{Host, MAX_STREAMS, Muxer, Protocol, quic_window},
    wire::carrier::{ip_version, transport_name},
};

/// Raw tcp connection (go-libp2p's dial timeout).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
fixed_limit!("tcp connection of a dial", time CONNECT_TIMEOUT);

/// A circuit, from the first word to the relay on (go-libp2p's value).
pub(super) const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Silence after which a quic connection counts as lost.
const QUIC_IDLE: Duration = Duration::from_secs(30);
fixed_limit!("silence of a quic connection", time QUIC_IDLE);

/// The dialer proposes in this order. AES-GCM in hardware is several times as fast as
/// noise's ChaCha20, so tls goes first where the processor has AES.
fn security_order(options: &Options) -> Vec<Channel> {
    let mut order = Vec::with_capacity(3);
    if options.noise {
        order.push(Channel::Noise);
    }
    if options.tls {
        let at = if hardware_aes() { 0 } else { order.len() };
        order.insert(at, Channel::Tls);
    }
    if options.plaintext {
        order.push(Channel::Plaintext);
    }
    order
}

fn hardware_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        std::arch::is_x86_feature_detected!("aes")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// What the transport is joined to.
pub(super) struct Parts {
    /// Connections report to it.
    pub(super) host: Arc<dyn Host>,
    pub(super) next_race: NextRace,
    /// Decides on inbound connections.
    pub(super) admission: Arc<Admission>,
    pub(super) circuits: Circuits,
}

/// Why a node has no transport.
#[derive(Debug, thiserror::Error)]
pub enum TransportUnfit {
    /// The identity cannot be used for a security protocol.
    #[error(transparent)]
    Identity(#[from] IdentityUnfit),
    /// Websockets on shared ports are not to be had.
    #[error("no websockets on shared ports")]
    Websockets(#[source] TransportError<io::Error>),
}

/// Builds the transport of a node. Reads where the system says how names are resolved, and makes
/// certificates: no worker should wait for it.
///
/// # Errors
/// See [`TransportUnfit`].
pub(super) fn build(
    identity: &Keypair,
    options: &Options,
    parts: Parts,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, TransportUnfit> {
    let Parts {
        host,
        next_race,
        admission,
        circuits,
    } = parts;
    let listened = Arc::<Listened>::default();
    let tcp = || {
        let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let tcp = Sniff::new(Zoned::new(tcp), listened.clone());
        let tcp = TransportTimeout::with_outgoing_timeout(tcp, CONNECT_TIMEOUT);
        Accept::new(tcp, options.descriptors.clone())
            .map(|io, _| ReadAhead::new(PeerSocket::new(io)))
    };
    let upgrades = upgrades(identity, options, host.clone())?;
    let over_tcp = upgrades.apply(tcp(), UPGRADE_TIMEOUT, remote_address);
    // It encrypts by itself, so there is nothing under it that a network's key could protect.
    let over_quic = match options.network {
        None => OptionalTransport::some(over_quic(identity, options, host)),
        Some(_) => OptionalTransport::none(),
    };
    // Names are resolved before anything is dialed, except those that a secure websocket's
    // certificate is for.
    let over_websocket = upgrades.websocket(with_dns(tcp().boxed()), remote_address);
    let websockets = Websockets::new(|handed| upgrades.websocket(handed, remote_address))
        .map_err(TransportUnfit::Websockets)?;
    let remote = circuits.remote();
    let over_circuits = upgrades.apply(circuits, CIRCUIT_TIMEOUT + UPGRADE_TIMEOUT, remote);
    // An inbound one is there when its upgrades begin.
    let over_circuits =
        TransportTimeout::with_ingoing_timeout(over_circuits, UPGRADE_TIMEOUT).boxed();

    // Each transport refuses addresses that are not its own, so that the next one is asked.
    let all = over_circuits
        .or_transport(over_websocket)
        .map(|either, _| either.into_inner())
        .map_err(|error| error.into_inner())
        .boxed()
        .or_transport(over_quic)
        .map(|either, _| either.into_inner())
        .or_transport(over_tcp)
        .map(|either, _| either.into_inner())
        .and_then(|(peer, muxer), endpoint| {
            ready(check_peer(peer, &endpoint).map(|()| (peer, muxer)))
        })
        // `Either` hides what it holds from whoever looks for the cause.
        .map_err(|error| {
            error
                .map_left(|inner| inner.map_left(|inner| inner.into_inner()).into_inner())
                .into_inner()
        })
        .boxed();
    let shared = (shared_port::ports(options.listen.iter()), listened);
    let all = SharedPorts::new(all, shared, websockets, admission.clone(), UPGRADE_TIMEOUT);
    let raced = Raced::new(all, next_race);
    Ok(Gate::new(raced, admission).boxed())
}

/// How connections of all transports but quic are secured and multiplexed.
fn upgrades(
    identity: &Keypair,
    options: &Options,
    host: Arc<dyn Host>,
) -> Result<Upgrades, IdentityUnfit> {
    let mplex = options.mplex.then(|| {
        let mut config = libp2p_mplex::Config::new();
        // mplex has no flow control. One unread stream stops the others, as its design has
        // it; the alternative resets every stream that sends faster than its reader reads.
        config.set_max_buffer_behaviour(libp2p_mplex::MaxBufferBehaviour::Block);
        config
    });
    Ok(Upgrades {
        network: options.network,
        wss: options.wss.clone(),
        security: Security::new(identity, security_order(options), hardware_aes())?,
        mplex,
        host,
    })
}

fn over_quic(
    identity: &Keypair,
    options: &Options,
    host: Arc<dyn Host>,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    let mut config = quic::Config::new(identity);
    config.max_concurrent_stream_limit = u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX);
    let window = quic_window(options.memory);
    config.max_stream_data = window / 3 * 2;
    config.max_connection_data = window;
    config.max_idle_timeout = u32::try_from(QUIC_IDLE.as_millis()).unwrap_or(u32::MAX);
    Timed::new(quic::tokio::Transport::new(config))
        .map(move |((peer, connection), time), endpoint| {
            let remote = remote_address(&endpoint, peer);
            let dialed = is_client(&endpoint);
            let carrier = Carrier {
                outbound: dialed,
                transport: transport_name(&remote),
                security: "",
                muxer: "",
                ip_version: ip_version(&remote),
            };
            metrics().swarm.upgraded(carrier, time);
            let protocol = Protocol::Quic { connection, window };
            let muxer = Muxer::new(protocol, peer, remote, dialed, "", host);
            (peer, StreamMuxerBox::new(muxer))
        })
        .boxed()
}

/// Refuses a peer that is not the one dialed. The swarm takes the first connection that completes
/// and only then looks at the peer id; a wrong peer must fail its own address alone.
fn check_peer(actual: PeerId, endpoint: &ConnectedPoint) -> io::Result<()> {
    match expected(endpoint) {
        Some(expected) if expected != actual => {
            Err(io::Error::other(PeerIdMismatch { expected, actual }))
        }
        _ => Ok(()),
    }
}

/// Whether this side of a connection is the one that speaks first.
fn is_client(endpoint: &ConnectedPoint) -> bool {
    match endpoint {
        ConnectedPoint::Dialer { role_override, .. } => role_override.is_dialer(),
        ConnectedPoint::Listener { .. } => false,
    }
}

fn expected(endpoint: &ConnectedPoint) -> Option<PeerId> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => match address.iter().last() {
            Some(Part::P2p(peer)) => Some(peer),
            _ => None,
        },
        ConnectedPoint::Listener { .. } => None,
    }
}

fn with_dns<O: Send + Unpin + 'static>(transport: Boxed<O>) -> Boxed<O> {
    // An unreadable resolv.conf must not keep a daemon without names from starting: it gets
    // a resolver without servers, so only dialing names fails.
    if let Err(error) = dns::tokio::Transport::system(()) {
        tracing::warn!(%error, "no system resolver: names in addresses will not resolve");
        let nowhere = dns::ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        return dns::tokio::Transport::custom(transport, nowhere, dns::ResolverOpts::default())
            .boxed();
    }
    match dns::tokio::Transport::system(transport) {
        Ok(transport) => transport.boxed(),
        Err(_) => DummyTransport::new().boxed(),
    }
}
