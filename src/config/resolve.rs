//! Lays flags over file over defaults, in Go's order of precedence and of complaints.

use std::net::{AddrParseError, IpAddr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::file::Settings;
use super::{
    Bootstrap, Config, ConfigError, ConnManager, DhtMode, Limits, Muxer, Nat, PubSub, Reachability,
    Relay, group,
};
use crate::cli::{Args, FileMode, GoDuration};
use crate::control::guard::Rules;
use crate::dht::Validator;
use crate::muxer::MAX_STREAMS;
use crate::node::{AddressLimits, PER_PEER};
use crate::pubsub::RouterKind;
use crate::wire::frame::DEFAULT_MAX_FRAME;
use crate::wire::maddr::{ControlAddr, parse_multiaddr};

/// Where control clients look unless told otherwise.
const DEFAULT_LISTEN: &str = "/unix/tmp/p2pd.sock";

/// Permission bits of the control socket: whoever can open it acts as the peer.
const DEFAULT_MODE: FileMode = FileMode(0o600);

/// Longest path of a unix socket in bytes; the kernel's field holds a NUL as well.
const MAX_SOCKET_PATH: usize = 107;

/// Largest settable frame limit: protobuf messages end at 2 GiB.
const MAX_FRAME: i64 = i32::MAX as i64;

/// Time for streams to drain.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// The public IPFS network, as go-libp2p-kad-dht lists it.
const PUBLIC_PEERS: [&str; 5] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// Settles every value; `notices` stay empty.
pub(super) fn resolve(args: &Args, file: Settings) -> Result<Config, ConfigError> {
    let listen = listen(args, file.listen.as_ref())?;
    let host_addrs = addrs(args.host_addrs.as_deref(), &file.host_addrs)?;
    let announce_addrs = addrs(args.announce_addrs.as_deref(), &file.announce_addrs)?;
    let bootstrap_peers = addrs(args.bootstrap_peers.as_deref(), &file.bootstrap_peers)?;
    let dht = dht(args, file.dht_mode.as_deref())?;
    let relay = relay(args, &file, dht)?;
    let noise = args.noise.or(file.noise).unwrap_or(true);
    let tls = args.tls.or(file.tls).unwrap_or(true);
    let plaintext = args.plaintext.or(file.plaintext).unwrap_or(false);
    if !(noise || tls || plaintext) {
        return Err(ConfigError::NoSecurity);
    }
    let nat = nat(args, &file)?;
    Ok(Config {
        listen,
        listen_mode: args.listen_mode.unwrap_or(DEFAULT_MODE).0,
        listen_group: not_empty(args.listen_group.as_deref())
            .map(group::lookup)
            .transpose()?,
        control: control(args, &file)?,
        quiet: on(args.quiet, file.quiet),
        identity_file: args
            .id
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
            .or_else(|| file.id.clone()),
        host_addrs,
        announce_addrs,
        no_listen: on(args.no_listen, file.no_listen),
        noise,
        tls,
        plaintext,
        // Go takes any other name for yamux without a word.
        muxer: match args.muxer.as_deref() {
            Some("mplex") => Muxer::Mplex,
            _ => Muxer::Yamux,
        },
        echo: args.echo.or(file.echo).unwrap_or(true),
        max_frame: max_frame(args.max_frame)?,
        shutdown_grace: args
            .shutdown_grace
            .map_or(DEFAULT_GRACE, |grace| grace.positive().unwrap_or_default()),
        dht,
        datastore: args
            .datastore
            .clone()
            .filter(|path| !path.as_os_str().is_empty()),
        dht_namespaces: dht_namespaces(args.dht_namespace.as_deref())?,
        bootstrap: bootstrap(on(args.bootstrap, file.bootstrap), bootstrap_peers)?,
        pubsub: pubsub(args, &file)?,
        relay,
        conn_manager: conn_manager(args, &file),
        per_address: per_address(args, &file),
        limits: limits(args, &file),
        nat,
        metrics_addr: not_empty(args.metrics_addr.as_deref())
            .map(Into::into)
            .or(file.metrics_addr),
        idle_timeout: args.idle_timeout.and_then(GoDuration::positive),
        stay_alive: args.stay_alive == Some(true),
        in_file: Vec::new(),
        notices: Vec::new(),
    })
}

/// Most switches of the command line only switch on; one given as false leaves the file's
/// value alone, as in Go.
fn on(flag: Option<bool>, file: Option<bool>) -> bool {
    flag == Some(true) || file == Some(true)
}

/// An empty flag counts as one that was not given, as in Go.
fn not_empty(flag: Option<&str>) -> Option<&str> {
    flag.filter(|text| !text.is_empty())
}

fn listen(args: &Args, file: Option<&ControlAddr>) -> Result<ControlAddr, ConfigError> {
    let addr = match (&args.listen, file) {
        (Some(text), _) => ControlAddr::parse(text)?,
        (None, Some(addr)) => addr.clone(),
        (None, None) => ControlAddr::parse(DEFAULT_LISTEN)?,
    };
    if let ControlAddr::Unix(path) = &addr {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > MAX_SOCKET_PATH || bytes.contains(&0) {
            return Err(ConfigError::SocketPath(path.clone()));
        }
    }
    Ok(addr)
}

fn control(args: &Args, file: &Settings) -> Result<Rules, ConfigError> {
    let uids = not_empty(args.control_uids.as_deref()).or(file.control_uids.as_deref());
    let allow = not_empty(args.control_allow.as_deref()).or(file.control_allow.as_deref());
    let uid = |text: &str| {
        let uid = text.parse();
        uid.map_err(|_| ConfigError::ControlUid(text.to_owned()))
    };
    let network = |text: &str| {
        let network = text.parse().or_else(|_| text.parse().map(IpAddr::into));
        network.map_err(|_: AddrParseError| ConfigError::ControlAllow(text.to_owned()))
    };
    Ok(Rules {
        uids: uids.map_or(Ok(Vec::new()), |list| list.split(',').map(uid).collect())?,
        allow: allow.map_or(Ok(Vec::new()), |list| {
            list.split(',').map(network).collect()
        })?,
        handler_any: on(args.handler_any, file.handler_any),
    })
}

/// The comma separated list of a flag, or else the file's.
fn addrs(flag: Option<&str>, file: &[Multiaddr]) -> Result<Vec<Multiaddr>, ConfigError> {
    let Some(list) = not_empty(flag) else {
        return Ok(file.to_vec());
    };
    Ok(list
        .split(',')
        .map(parse_multiaddr)
        .collect::<Result<_, _>>()?)
}

fn dht(args: &Args, file: Option<&str>) -> Result<Option<DhtMode>, ConfigError> {
    let typed = [
        (args.dht, DhtMode::Auto),
        (args.dht_client, DhtMode::Client),
        (args.dht_server, DhtMode::Server),
    ];
    if let Some((_, mode)) = typed.iter().find(|(flag, _)| *flag == Some(true)) {
        return Ok(Some(*mode));
    }
    match file {
        None => Ok(None),
        Some("full") => Ok(Some(DhtMode::Auto)),
        Some("client") => Ok(Some(DhtMode::Client)),
        Some("server") => Ok(Some(DhtMode::Server)),
        Some(other) => Err(ConfigError::DhtMode(other.to_owned())),
    }
}

fn dht_namespaces(flag: Option<&str>) -> Result<Vec<String>, ConfigError> {
    let Some(list) = not_empty(flag) else {
        return Ok(Vec::new());
    };
    list.split(',')
        .map(|name| match Validator::may_add(name) {
            true => Ok(name.to_owned()),
            false => Err(ConfigError::DhtNamespace(name.to_owned())),
        })
        .collect()
}

fn relay(args: &Args, file: &Settings, dht: Option<DhtMode>) -> Result<Relay, ConfigError> {
    let enabled = args.relay.or(file.relay).unwrap_or(true);
    let auto = on(args.auto_relay, file.auto_relay);
    let discovery = args
        .relay_discovery
        .or(file.relay_discovery)
        .unwrap_or(true);
    let trusted = addrs(args.trusted_relays.as_deref(), &[])?;
    if auto && (!enabled || dht.is_none()) {
        return Err(ConfigError::AutoRelay);
    }
    if auto && !discovery && trusted.is_empty() {
        return Err(ConfigError::NoRelaySource);
    }
    if !trusted.is_empty() && !auto {
        return Err(ConfigError::TrustedRelays);
    }
    if !trusted.iter().all(names_a_peer) {
        return Err(ConfigError::NotP2p);
    }
    Ok(Relay {
        enabled,
        auto,
        discovery,
        trusted,
        service: enabled && args.relay_service.unwrap_or(true),
        max_circuits: count(args.relay_max_circuits, 16),
        max_reservations: count(args.relay_max_reservations, 128),
        buffer_size: count(args.relay_buffer_size, 16 << 20),
        data_limit: u64::try_from(args.relay_data_limit.unwrap_or(4 << 30)).unwrap_or(0),
        time_limit: args
            .relay_time_limit
            .map_or(Duration::from_secs(30 * 60), |limit| {
                limit.positive().unwrap_or_default()
            }),
    })
}

/// A number of things; less than none is none.
fn count(flag: Option<i64>, default: usize) -> usize {
    flag.map_or(default, |count| usize::try_from(count).unwrap_or(0))
}

fn names_a_peer(addr: &Multiaddr) -> bool {
    matches!(addr.iter().last(), Some(Protocol::P2p(_)))
}

fn nat(args: &Args, file: &Settings) -> Result<Nat, ConfigError> {
    let public = args.force_public == Some(true);
    let private = args.force_private == Some(true);
    let reachability = match (public, private) {
        (true, true) => return Err(ConfigError::Reachability),
        (true, false) => Some(Reachability::Public),
        (false, true) => Some(Reachability::Private),
        (false, false) => None,
    };
    Ok(Nat {
        port_map: on(args.nat_port_map, file.nat_port_map),
        autonat: on(args.autonat, file.autonat),
        reachability,
    })
}

fn max_frame(flag: Option<i64>) -> Result<usize, ConfigError> {
    let Some(limit) = flag else {
        return Ok(DEFAULT_MAX_FRAME);
    };
    usize::try_from(limit.min(MAX_FRAME))
        .ok()
        .filter(|limit| *limit > 0)
        .ok_or(ConfigError::MaxFrame(limit))
}

fn bootstrap(enabled: bool, peers: Vec<Multiaddr>) -> Result<Bootstrap, ConfigError> {
    let explicit = !peers.is_empty();
    let peers = if enabled && !explicit {
        let public = PUBLIC_PEERS.iter().map(|text| parse_multiaddr(text));
        public.collect::<Result<_, _>>()?
    } else {
        peers
    };
    if enabled && !peers.iter().all(names_a_peer) {
        return Err(ConfigError::NotP2p);
    }
    Ok(Bootstrap {
        enabled,
        peers,
        explicit,
    })
}

fn pubsub(args: &Args, file: &Settings) -> Result<Option<PubSub>, ConfigError> {
    if !on(args.pubsub, file.pubsub) {
        return Ok(None);
    }
    let router = args.pubsub_router.as_deref();
    let router = match router.or(file.pubsub_router.as_deref()) {
        None | Some("gossipsub") => RouterKind::Gossipsub,
        Some("floodsub") => RouterKind::Floodsub,
        Some(other) => return Err(ConfigError::Router(other.to_owned())),
    };
    let positive = |flag: Option<GoDuration>, file: Option<GoDuration>| {
        let flag = flag.and_then(GoDuration::positive);
        flag.or(file.and_then(GoDuration::positive))
    };
    Ok(Some(PubSub {
        router,
        sign: args.pubsub_sign.or(file.pubsub_sign).unwrap_or(true),
        sign_strict: args
            .pubsub_sign_strict
            .or(file.pubsub_sign_strict)
            .unwrap_or(true),
        heartbeat_interval: positive(args.heartbeat_interval, file.heartbeat_interval),
        heartbeat_delay: positive(args.heartbeat_delay, file.heartbeat_delay),
    }))
}

fn per_address(args: &Args, file: &Settings) -> AddressLimits {
    let default = AddressLimits::default();
    AddressLimits {
        connections: count(
            args.conn_per_address.or(file.conn_per_address),
            default.connections,
        ),
        burst: count(args.conn_burst.or(file.conn_burst), default.burst),
        refill: args
            .conn_refill
            .or(file.conn_refill)
            .map_or(default.refill, |time| time.positive().unwrap_or_default()),
    }
}

/// Zero and less leave a limit at its default.
fn limits(args: &Args, file: &Settings) -> Limits {
    let set = |flag: Option<i64>, file: Option<i64>| flag.or(file).filter(|limit| *limit > 0);
    let count = |flag, file| set(flag, file).and_then(|limit| usize::try_from(limit).ok());
    Limits {
        memory: set(args.memory_limit, file.memory_limit).map(i64::unsigned_abs),
        connections: count(args.conn_max, file.conn_max),
        inbound: count(args.conn_max_inbound, file.conn_max_inbound),
        per_peer: count(args.conn_per_peer, file.conn_per_peer).unwrap_or(PER_PEER),
        streams: count(args.streams_max, file.streams_max),
        per_connection: count(args.streams_per_conn, file.streams_per_conn)
            .map_or(MAX_STREAMS, |limit| limit.min(MAX_STREAMS)),
    }
}

fn conn_manager(args: &Args, file: &Settings) -> Option<ConnManager> {
    on(args.conn_manager, file.conn_manager).then(|| ConnManager {
        low: count(args.conn_lo.or(file.conn_lo), 256),
        high: count(args.conn_hi.or(file.conn_hi), 512),
        grace: args
            .conn_grace
            .or(file.conn_grace)
            .map_or(Duration::from_secs(120), |grace| {
                grace.positive().unwrap_or_default()
            }),
    })
}
