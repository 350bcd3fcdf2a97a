//! Lays flags over file over defaults, in Go's order of precedence and of complaints.

use std::net::{AddrParseError, IpAddr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use ipnet::IpNet;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::{
    Bootstrap, CertificateFiles, Config, ConfigError, ConnManager, DhtMode, Limits, Muxer, Nat,
    PubSub, Reachability, Relay, Wss, group,
};
use crate::control::{guard::Rules, web};
use crate::dht::Validator;
use crate::muxer::MAX_STREAMS;
use crate::node::{AddressLimits, PER_PEER, shared_ports};
use crate::pubsub::RouterKind;
use crate::rendezvous::{MAX_NAMESPACE, Points};
use crate::settings::{AddrList, ByteSize, Given, GoDuration, Sources, Values};
use crate::wire::maddr::{ControlAddr, parse_multiaddr};

/// Longest path of a unix socket in bytes; the kernel's field holds a NUL as well.
const MAX_SOCKET_PATH: usize = 107;

/// Largest settable frame limit: protobuf messages end at 2 GiB.
const MAX_FRAME: i64 = i32::MAX as i64;

/// The public IPFS network, as go-libp2p-kad-dht lists it.
const PUBLIC_PEERS: [&str; 5] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// Settles every value; `notices` stay empty.
pub(super) fn resolve(flags: &Given, file: &Given) -> Result<Config, ConfigError> {
    let values = Values::settle(flags, file);
    let listen = listen(&values)?;
    let host_addrs = multiaddrs("-hostAddrs", values.host_addrs.as_ref())?;
    let announce_addrs = multiaddrs("-announceAddrs", values.announce_addrs.as_ref())?;
    let bootstrap_peers = multiaddrs("-bootstrapPeers", values.bootstrap_peers.as_ref())?;
    let dht = dht(&values)?;
    let relay = relay(&values, dht)?;
    if !(values.noise || values.tls || values.plaintext) {
        return Err(ConfigError::NoSecurity);
    }
    let bootstrap = bootstrap(values.bootstrap, bootstrap_peers)?;
    if values.pnet_key.is_some() {
        all_private("-hostAddrs", &host_addrs)?;
        // What a peer says first, by which the two are told apart, is random there.
        if let Some(port) = shared_ports(host_addrs.iter()).into_iter().next() {
            let flag = "-hostAddrs";
            return Err(ConfigError::SharedPort { flag, port });
        }
        if bootstrap.enabled && !bootstrap.explicit {
            return Err(ConfigError::PublicPeers);
        }
    }
    let wss = wss(&values, &host_addrs)?;
    let nat = nat(&values)?;
    let per_address = AddressLimits {
        connections: count(values.conn_per_address),
        burst: count(values.conn_burst),
        refill: span(values.conn_refill),
    };
    Ok(Config {
        listen,
        listen_mode: values.listen_mode.0,
        listen_group: values
            .listen_group
            .as_deref()
            .map(group::lookup)
            .transpose()?,
        control: control(&values)?,
        control_http: control_http(&values)?,
        quiet: values.quiet,
        identity_file: values.id.clone(),
        create_identity: values.create_identity,
        host_addrs,
        announce_addrs,
        no_listen: values.no_listen,
        noise: values.noise,
        tls: values.tls,
        plaintext: values.plaintext,
        pnet_key: values.pnet_key.clone(),
        wss,
        // Go takes any other name for yamux without a word.
        muxer: match values.muxer.as_str() {
            "mplex" => Muxer::Mplex,
            _ => Muxer::Yamux,
        },
        echo: values.echo,
        max_frame: max_frame(values.max_frame)?,
        shutdown_grace: span(values.shutdown_grace),
        mdns: values.mdns,
        rendezvous: rendezvous(&values)?,
        rendezvous_server: values.rendezvous_server,
        dht,
        datastore: values.datastore.clone(),
        dht_namespaces: dht_namespaces(values.dht_namespace.as_deref())?,
        bootstrap,
        pubsub: pubsub(&values, flags, file)?,
        relay,
        conn_manager: conn_manager(&values),
        per_address,
        per_local_address: per_local_address(&per_address),
        exempt: networks(values.conn_exempt.as_deref(), ConfigError::ConnExempt)?,
        limits: limits(&values)?,
        nat,
        metrics_addr: values.metrics_addr,
        idle_timeout: values.idle_timeout.and_then(GoDuration::positive),
        stay_alive: values.stay_alive,
        sources: Sources::of(flags, file),
        notices: Vec::new(),
    })
}

/// A number of things; less than none is none.
fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// A span of time; a negative one is none.
fn span(value: GoDuration) -> Duration {
    value.positive().unwrap_or_default()
}

fn listen(values: &Values) -> Result<ControlAddr, ConfigError> {
    let flag = "-listen";
    let addr = values.listen.control();
    let addr = addr.map_err(|error| ConfigError::Address { flag, error })?;
    if let ControlAddr::Unix(path) = &addr {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > MAX_SOCKET_PATH || bytes.contains(&0) {
            return Err(ConfigError::SocketPath(path.clone()));
        }
    }
    Ok(addr)
}

fn multiaddrs(flag: &'static str, list: Option<&AddrList>) -> Result<Vec<Multiaddr>, ConfigError> {
    let read = list.map_or(Ok(Vec::new()), AddrList::multiaddrs);
    read.map_err(|error| ConfigError::Address { flag, error })
}

fn control(values: &Values) -> Result<Rules, ConfigError> {
    let uid = |text: &str| {
        let uid = text.parse();
        uid.map_err(|_| ConfigError::ControlUid(text.to_owned()))
    };
    let uids = values.control_uids.as_deref();
    Ok(Rules {
        uids: uids.map_or(Ok(Vec::new()), |list| list.split(',').map(uid).collect())?,
        allow: networks(values.control_allow.as_deref(), ConfigError::ControlAllow)?,
        handler_any: values.handler_any,
    })
}

/// Control over HTTP.
fn control_http(values: &Values) -> Result<Option<web::Settings>, ConfigError> {
    let Some(address) = &values.control_http else {
        return Ok(None);
    };
    let full = match address.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address.replacen("localhost:", "127.0.0.1:", 1),
    };
    let wrong = || ConfigError::ControlHttp(address.clone());
    let origins = values.control_origins.as_deref();
    let origins = origins.map(|list| list.split(',').map(origin).collect());
    Ok(Some(web::Settings {
        address: full.parse().map_err(|_| wrong())?,
        token: values
            .control_token
            .clone()
            .ok_or(ConfigError::ControlToken)?,
        origins: origins.unwrap_or(Ok(Vec::new()))?,
    }))
}

/// An origin as browsers write it: a scheme, and a host with its port if that is not the scheme's.
fn origin(text: &str) -> Result<String, ConfigError> {
    let plain = |host: &str| {
        let letters =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
        !host.is_empty() && host.chars().all(letters)
    };
    match text.split_once("://") {
        Some((scheme, host)) if !scheme.is_empty() && plain(host) => Ok(text.to_owned()),
        _ => Err(ConfigError::ControlOrigins(text.to_owned())),
    }
}

/// The networks and addresses in a list; `wrong` with the first entry that is none.
fn networks(
    list: Option<&str>,
    wrong: impl Fn(String) -> ConfigError,
) -> Result<Vec<IpNet>, ConfigError> {
    let network = |text: &str| {
        let network = text.parse().or_else(|_| text.parse().map(IpAddr::into));
        network.map_err(|_: AddrParseError| wrong(text.to_owned()))
    };
    list.map_or(Ok(Vec::new()), |list| {
        list.split(',').map(network).collect()
    })
}

/// What is set to something else than its default holds for private addresses as well.
fn per_local_address(set: &AddressLimits) -> AddressLimits {
    fn or<T: PartialEq>(set: T, default: T, local: T) -> T {
        if set == default { local } else { set }
    }
    let (default, local) = (AddressLimits::default(), AddressLimits::local());
    AddressLimits {
        connections: or(set.connections, default.connections, local.connections),
        burst: or(set.burst, default.burst, local.burst),
        refill: or(set.refill, default.refill, local.refill),
    }
}

fn dht(values: &Values) -> Result<Option<DhtMode>, ConfigError> {
    let flags = [
        (values.dht, DhtMode::Auto),
        (values.dht_client, DhtMode::Client),
        (values.dht_server, DhtMode::Server),
    ];
    if let Some((_, mode)) = flags.iter().find(|(on, _)| *on) {
        return Ok(Some(*mode));
    }
    match values.dht_mode.as_deref() {
        None => Ok(None),
        Some("full") => Ok(Some(DhtMode::Auto)),
        Some("client") => Ok(Some(DhtMode::Client)),
        Some("server") => Ok(Some(DhtMode::Server)),
        Some(other) => Err(ConfigError::DhtMode(other.to_owned())),
    }
}

fn dht_namespaces(list: Option<&str>) -> Result<Vec<String>, ConfigError> {
    let names = list.map(|list| list.split(','));
    names
        .into_iter()
        .flatten()
        .map(|name| match Validator::may_add(name) {
            true => Ok(name.to_owned()),
            false => Err(ConfigError::DhtNamespace(name.to_owned())),
        })
        .collect()
}

fn rendezvous(values: &Values) -> Result<Points, ConfigError> {
    let points = multiaddrs("-rendezvous", values.rendezvous.as_ref())?;
    all_name_a_peer("-rendezvous", &points)?;
    let names = values.rendezvous_namespace.split(',');
    let namespaces = names.map(|name| match (1..=MAX_NAMESPACE).contains(&name.len()) {
        true => Ok(name.to_owned()),
        false => Err(ConfigError::RendezvousNamespace(name.to_owned())),
    });
    Ok(Points {
        points,
        namespaces: namespaces.collect::<Result<_, _>>()?,
    })
}

fn relay(values: &Values, dht: Option<DhtMode>) -> Result<Relay, ConfigError> {
    let trusted = multiaddrs("-trustedRelays", values.trusted_relays.as_ref())?;
    let (enabled, auto) = (values.relay, values.auto_relay);
    if auto && (!enabled || dht.is_none()) {
        return Err(ConfigError::AutoRelay);
    }
    if auto && !values.relay_discovery && trusted.is_empty() {
        return Err(ConfigError::NoRelaySource);
    }
    if !trusted.is_empty() && !auto {
        return Err(ConfigError::TrustedRelays);
    }
    all_name_a_peer("-trustedRelays", &trusted)?;
    Ok(Relay {
        enabled,
        auto,
        discovery: values.relay_discovery,
        trusted,
        service: enabled && values.relay_service,
        max_circuits: count(values.relay_max_circuits),
        max_reservations: count(values.relay_max_reservations),
        buffer_size: count(values.relay_buffer_size.0),
        data_limit: u64::try_from(values.relay_data_limit.0).unwrap_or(0),
        time_limit: span(values.relay_time_limit),
    })
}

fn all_name_a_peer(flag: &'static str, addresses: &[Multiaddr]) -> Result<(), ConfigError> {
    let names_a_peer =
        |address: &&Multiaddr| matches!(address.iter().last(), Some(Protocol::P2p(_)));
    match addresses.iter().find(|address| !names_a_peer(address)) {
        None => Ok(()),
        Some(address) => Err(ConfigError::NotP2p {
            flag,
            address: address.clone(),
        }),
    }
}

/// Refuses addresses of transports that encrypt by themselves: there is nothing under them that
/// the network's key could protect.
fn all_private(flag: &'static str, addresses: &[Multiaddr]) -> Result<(), ConfigError> {
    let is_udp = |address: &&Multiaddr| address.iter().any(|part| matches!(part, Protocol::Udp(_)));
    match addresses.iter().find(is_udp) {
        None => Ok(()),
        Some(address) => Err(ConfigError::NotPrivate {
            flag,
            address: address.clone(),
        }),
    }
}

fn nat(values: &Values) -> Result<Nat, ConfigError> {
    let reachability = match (values.force_public, values.force_private) {
        (true, true) => return Err(ConfigError::Reachability),
        (true, false) => Some(Reachability::Public),
        (false, true) => Some(Reachability::Private),
        (false, false) => None,
    };
    Ok(Nat {
        port_map: values.nat_port_map,
        autonat: values.autonat,
        reachability,
    })
}

fn wss(values: &Values, host_addrs: &[Multiaddr]) -> Result<Wss, ConfigError> {
    let certificate = match (&values.wss_cert, &values.wss_key) {
        (Some(certificate), Some(key)) => Some(CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        (None, None) => None,
        _ => return Err(ConfigError::HalfCertificate),
    };
    let needs = |address: &&Multiaddr| {
        let mut parts = address.iter();
        parts.any(|part| matches!(part, Protocol::Wss(_) | Protocol::Tls))
    };
    if let (None, Some(address)) = (&certificate, host_addrs.iter().find(needs)) {
        return Err(ConfigError::NoCertificate {
            flag: "-hostAddrs",
            address: address.clone(),
        });
    }
    Ok(Wss {
        certificate,
        roots: values.wss_roots.clone(),
    })
}

fn max_frame(ByteSize(limit): ByteSize) -> Result<usize, ConfigError> {
    usize::try_from(limit.min(MAX_FRAME))
        .ok()
        .filter(|limit| *limit > 0)
        .ok_or(ConfigError::MaxFrame(limit))
}

fn bootstrap(enabled: bool, peers: Vec<Multiaddr>) -> Result<Bootstrap, ConfigError> {
    let explicit = !peers.is_empty();
    let peers = if enabled && !explicit {
        let public = PUBLIC_PEERS.iter().map(|text| parse_multiaddr(text));
        public
            .collect::<Result<_, _>>()
            .map_err(|error| ConfigError::Address {
                flag: "-bootstrapPeers",
                error: error.into(),
            })?
    } else {
        peers
    };
    if enabled {
        all_name_a_peer("-bootstrapPeers", &peers)?;
    }
    Ok(Bootstrap {
        enabled,
        peers,
        explicit,
    })
}

fn pubsub(values: &Values, flags: &Given, file: &Given) -> Result<Option<PubSub>, ConfigError> {
    if !values.pubsub {
        return Ok(None);
    }
    let router = match values.pubsub_router.as_str() {
        "gossipsub" => RouterKind::Gossipsub,
        "floodsub" => RouterKind::Floodsub,
        other => return Err(ConfigError::Router(other.to_owned())),
    };
    // A flag of zero leaves the file's value alone, as in Go.
    let positive = |flag: Option<GoDuration>, file: Option<GoDuration>| {
        let flag = flag.and_then(GoDuration::positive);
        flag.or(file.and_then(GoDuration::positive))
    };
    Ok(Some(PubSub {
        router,
        sign: values.pubsub_sign,
        sign_strict: values.pubsub_sign_strict,
        heartbeat_interval: positive(flags.heartbeat_interval, file.heartbeat_interval),
        heartbeat_delay: positive(flags.heartbeat_delay, file.heartbeat_delay),
    }))
}

/// Zero and less leave a limit to the system; of memory, less is a mistake.
fn limits(values: &Values) -> Result<Limits, ConfigError> {
    if values.memory_limit.0 < 0 {
        return Err(ConfigError::MemoryLimit(values.memory_limit.0));
    }
    let set = |limit: i64| usize::try_from(limit).ok().filter(|limit| *limit > 0);
    Ok(Limits {
        memory: set(values.memory_limit.0).and_then(|limit| u64::try_from(limit).ok()),
        connections: set(values.conn_max),
        inbound: set(values.conn_max_inbound),
        per_peer: set(values.conn_per_peer).unwrap_or(PER_PEER),
        streams: set(values.streams_max),
        per_connection: set(values.streams_per_conn)
            .map_or(MAX_STREAMS, |limit| limit.min(MAX_STREAMS)),
    })
}

fn conn_manager(values: &Values) -> Option<ConnManager> {
    values.conn_manager.then(|| ConnManager {
        low: count(values.conn_lo),
        high: count(values.conn_hi),
        grace: span(values.conn_grace),
    })
}
