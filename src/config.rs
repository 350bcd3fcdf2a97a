//! What the daemon uses: every setting validated, nothing undecided.
//!
//! [`Config::load`] lays the flags over the JSON file over the defaults (COMPATIBILITY.md 1.1, 2).

mod file;
pub(crate) mod fuzzing;
mod group;
mod notices;
mod resolve;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use libp2p::Multiaddr;

use crate::cli::Args;
use crate::control::{guard::Rules, web};
use crate::node::AddressLimits;
use crate::pubsub::RouterKind;
use crate::rendezvous::Points;
use crate::settings::{AddrError, Given, JsonError, Sources};
use crate::wire::maddr::ControlAddr;
use crate::wording::{quote, system_error};

/// The environment variable that forbids to run without a private network's key.
const FORCE_PNET: &str = "LIBP2P_FORCE_PNET";

/// Settings of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where control clients connect.
    pub listen: ControlAddr,
    /// Permission bits of a unix control socket.
    pub listen_mode: u32,
    /// Group that owns a unix control socket; the process's own if `None`.
    pub listen_group: Option<u32>,
    /// Who may use the control socket, and how far requests reach.
    pub control: Rules,
    /// Control over HTTP, if there is any.
    pub control_http: Option<web::Settings>,
    /// Whether stdout stays empty.
    pub quiet: bool,
    /// Key file; a fresh key if `None`.
    pub identity_file: Option<PathBuf>,
    /// Whether a missing key file is made.
    pub create_identity: bool,
    /// Addresses the host listens on; nothing if empty, as in Go.
    pub host_addrs: Vec<Multiaddr>,
    /// Addresses told to others instead of those listened on, unless empty.
    pub announce_addrs: Vec<Multiaddr>,
    /// Whether the host listens on nothing by wish.
    pub no_listen: bool,
    /// Offers Noise.
    pub noise: bool,
    /// Offers TLS 1.3.
    pub tls: bool,
    /// Offers connections without protection.
    pub plaintext: bool,
    /// Key file of the private network; the public network if `None`.
    pub pnet_key: Option<PathBuf>,
    /// Files for secure websockets.
    pub wss: Wss,
    /// Stream multiplexer.
    pub muxer: Muxer,
    /// Serves `/echo/1.0.0`.
    pub echo: bool,
    /// Largest frame on control connections, in bytes of payload.
    pub max_frame: usize,
    /// How long streams may drain after the signal to stop.
    pub shutdown_grace: Duration,
    /// Finds peers by multicast DNS.
    pub mdns: bool,
    /// Rendezvous points to register at.
    pub rendezvous: Points,
    /// Serves as a rendezvous point.
    pub rendezvous_server: bool,
    /// DHT mode, off if `None`.
    pub dht: Option<DhtMode>,
    /// Where the DHT keeps what it holds; in memory alone if `None`.
    pub datastore: Option<PathBuf>,
    /// Namespaces in which the DHT takes any record.
    pub dht_namespaces: Vec<String>,
    /// Bootstrap peers.
    pub bootstrap: Bootstrap,
    /// Pubsub, off if `None`.
    pub pubsub: Option<PubSub>,
    /// Circuit relay.
    pub relay: Relay,
    /// The connection manager's own marks, if wanted.
    pub conn_manager: Option<ConnManager>,
    /// What one address may do to this host.
    pub per_address: AddressLimits,
    /// What a private address may do to it, or one of the machine's own.
    pub per_local_address: AddressLimits,
    /// Networks whose addresses may have any number of connections.
    pub exempt: Vec<IpNet>,
    /// Limits that replace defaults.
    pub limits: Limits,
    /// Address translation and reachability.
    pub nat: Nat,
    /// Where metrics are served, `host:port`.
    pub metrics_addr: Option<String>,
    /// Ends the daemon if no persistent connection is opened in that time.
    pub idle_timeout: Option<Duration>,
    /// Outlives its last persistent connection.
    pub stay_alive: bool,
    /// Who has set which setting.
    pub sources: Sources,
    /// What the operator should know; one line of stderr each, printed once.
    pub notices: Vec<String>,
}

/// Stream multiplexers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Muxer {
    /// `/yamux/1.0.0`
    Yamux,
    /// `/mplex/6.7.0`
    Mplex,
}

/// How the DHT takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhtMode {
    /// Client until proven public, then server.
    Auto,
    /// Asks only.
    Client,
    /// Answers as well.
    Server,
}

/// Peers to join a network through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Whether to dial them at start.
    pub enabled: bool,
    /// Each ends in `/p2p/<id>` if `enabled`.
    pub peers: Vec<Multiaddr>,
    /// Whether `peers` were given, rather than the public defaults; only then does the
    /// banner list them.
    pub explicit: bool,
}

/// Pubsub settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubSub {
    /// Routing protocol.
    pub router: RouterKind,
    /// Signs own messages.
    pub sign: bool,
    /// Refuses messages without a valid signature.
    pub sign_strict: bool,
    /// Time between heartbeats, the router's own if `None`.
    pub heartbeat_interval: Option<Duration>,
    /// Time before the first heartbeat, the router's own if `None`.
    pub heartbeat_delay: Option<Duration>,
}

/// Circuit relay settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Dials and accepts through relays; everything below needs it.
    pub enabled: bool,
    /// Reserves slots at relays while not reachable.
    pub auto: bool,
    /// Looks for relays among the DHT's peers.
    pub discovery: bool,
    /// Relays to use instead of discovered ones.
    pub trusted: Vec<Multiaddr>,
    /// Relays for others.
    pub service: bool,
    /// Open circuits per peer.
    pub max_circuits: usize,
    /// Reservations in total.
    pub max_reservations: usize,
    /// Buffer per circuit, in bytes.
    pub buffer_size: usize,
    /// Bytes per circuit and direction.
    pub data_limit: u64,
    /// Life of a circuit.
    pub time_limit: Duration,
}

/// The connection manager's marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnManager {
    /// Connections left after a trim.
    pub low: usize,
    /// Connections that start a trim; 0 never does.
    pub high: usize,
    /// Age below which a connection is not trimmed.
    pub grace: Duration,
}

/// Limits that may be set; those that are not follow from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the process, in bytes.
    pub memory: Option<u64>,
    /// Connections.
    pub connections: Option<usize>,
    /// Inbound connections.
    pub inbound: Option<usize>,
    /// Connections with one peer.
    pub per_peer: usize,
    /// Inbound streams of all peers.
    pub streams: Option<usize>,
    /// Inbound streams on one connection.
    pub per_connection: usize,
}

/// Address translation and reachability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// Asks the router for port mappings.
    pub port_map: bool,
    /// Tells others whether they are reachable, and punches holes.
    pub autonat: bool,
    /// What to claim instead of finding out.
    pub reachability: Option<Reachability>,
}

/// Whether strangers can dial this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// They can.
    Public,
    /// They cannot.
    Private,
}

/// Why a configuration is refused; the texts are Go's where Go has one (COMPATIBILITY.md 1.6).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file or stdin cannot be read.
    #[error("{action} {}: {}", .path.display(), system_error(.source))]
    File {
        /// `open` or `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The config file or stdin is endless, or no config.
    #[error("read {}: config is larger than {max} bytes", .path.display())]
    FileSize {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// The config is no JSON or of another shape.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// An address.
    #[error("{error}")]
    Address {
        /// The flag that takes it, with its dash.
        flag: &'static str,
        /// What is wrong with it.
        #[source]
        error: AddrError,
    },
    /// The path cannot name a socket.
    #[error("listen unix {}: bind: invalid argument", .0.display())]
    SocketPath(PathBuf),
    /// No such group.
    #[error("listenGroup: unknown group {}", quote(.0))]
    UnknownGroup(String),
    /// An entry of `-controlUids`.
    #[error("controlUids: {} is no user id", quote(.0))]
    ControlUid(String),
    /// An entry of `-controlAllow`.
    #[error("controlAllow: {} is no network", quote(.0))]
    ControlAllow(String),
    /// `-controlHttp`.
    #[error("controlHttp: {} is no address such as 127.0.0.1:4010", quote(.0))]
    ControlHttp(String),
    /// `-controlHttp` without a token.
    #[error("controlHttp needs controlToken, a file")]
    ControlToken,
    /// An entry of `-controlOrigins`.
    #[error("controlOrigins: {} is no origin such as https://example.com", quote(.0))]
    ControlOrigins(String),
    /// An entry of `-connExempt`.
    #[error("connExempt: {} is no network", quote(.0))]
    ConnExempt(String),
    /// `-noise=0 -tls=0` without plaintext.
    #[error("at least one channel security protocol must be enabled")]
    NoSecurity,
    /// Public and private at once.
    #[error("forceReachability must be public or private, not both")]
    Reachability,
    /// `DHT.Mode` of the config file.
    #[error("unknown DHT mode {{{0}}}")]
    DhtMode(String),
    /// A name is empty or longer than 255 bytes.
    #[error("rendezvousNamespace cannot be {}", quote(.0))]
    RendezvousNamespace(String),
    /// A name with a slash, or one that has a validator.
    #[error("dhtNamespace cannot be {}", quote(.0))]
    DhtNamespace(String),
    /// Autorelay lacks what it builds on.
    #[error("can't have autorelay enabled without Relay enabled and DHT enabled")]
    AutoRelay,
    /// Autorelay has nowhere to find relays.
    #[error("can't have autorelay enabled without relayDiscovery or trustedRelays")]
    NoRelaySource,
    /// Trusted relays that nothing would use.
    #[error("can't have trustedRelays without autoRelay and Relay enabled")]
    TrustedRelays,
    /// Neither gossipsub nor floodsub.
    #[error("unknown pubsub router: {0}")]
    Router(String),
    /// A bootstrap or relay address without `/p2p/<id>`.
    #[error("invalid p2p multiaddr")]
    NotP2p {
        /// The flag that takes it, with its dash.
        flag: &'static str,
        /// The first such address.
        address: Multiaddr,
    },
    /// A frame limit that lets no frame pass.
    #[error("persistentConnMaxMsgSize must be positive, not {0}")]
    MaxFrame(i64),
    /// A memory limit below zero.
    #[error("memoryLimit must not be negative, not {0}")]
    MemoryLimit(i64),
    /// A private network is demanded and none is configured.
    #[error("privnet: private network was not configured but is enforced by the environment")]
    PrivateNetwork,
    /// An address whose transport cannot carry a private network.
    #[error("{address} in {flag} cannot be part of a private network")]
    NotPrivate {
        /// The flag that takes it, with its dash.
        flag: &'static str,
        /// The first such address.
        address: Multiaddr,
    },
    /// A port for both tcp and websockets, in a private network.
    #[error("port {port} in {flag} cannot be shared in a private network")]
    SharedPort {
        /// The flag that takes it, with its dash.
        flag: &'static str,
        /// The port.
        port: u16,
    },
    /// One of the two files of a certificate without the other.
    #[error("a certificate is of use with its key alone")]
    HalfCertificate,
    /// A secure websocket to be listened on, without a certificate.
    #[error("{address} in {flag} needs a certificate")]
    NoCertificate {
        /// The flag that takes it, with its dash.
        flag: &'static str,
        /// The first such address.
        address: Multiaddr,
    },
    /// `-b` with the peers of the public network.
    #[error("a private network cannot be joined through the public bootstrap peers")]
    PublicPeers,
}

/// Files for secure websockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wss {
    /// The certificate that is listened with, if there is one.
    pub certificate: Option<CertificateFiles>,
    /// Authorities that are trusted beside Mozilla's, when dialing.
    pub roots: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Config {
    /// Reads the config file that `args` name, if any, and settles every value.
    ///
    /// # Errors
    /// [`ConfigError`]; the daemon cannot run and exits with 1.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        let mut notices = Vec::new();
        let file = file::load(&args.given, &mut notices)?;
        let config = settle(args, &file, notices)?;
        let forced = std::env::var_os(FORCE_PNET).is_some_and(|value| value == "1");
        if forced && config.pnet_key.is_none() {
            return Err(ConfigError::PrivateNetwork);
        }
        Ok(config)
    }
}

/// Settles every value of `args` over `file`; what the operator should know follows `notices`.
fn settle(args: &Args, file: &Given, mut notices: Vec<String>) -> Result<Config, ConfigError> {
    let mut config = resolve::resolve(&args.given, file)?;
    notices.extend(notices::of(args, &config));
    config.notices = notices;
    Ok(config)
}

#[cfg(test)]
mod tests;
