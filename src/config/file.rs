//! The JSON config (COMPATIBILITY.md 2), in the shape of Go's `config.Config`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;

use super::ConfigError;
use super::json::Object;
use crate::cli::{Args, GoDuration};
use crate::wire::maddr::ControlAddr;
use crate::wording::system_error;

/// Largest config, in bytes: a guard against `-f /dev/zero`, far above any real one.
const MAX_SIZE: u64 = 1 << 20;

/// What a config says; `None` and empty lists are keys that are absent or null.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) listen: Option<ControlAddr>,
    pub(super) control_uids: Option<String>,
    pub(super) control_allow: Option<String>,
    pub(super) handler_any: Option<bool>,
    pub(super) quiet: Option<bool>,
    pub(super) id: Option<PathBuf>,
    pub(super) bootstrap: Option<bool>,
    pub(super) bootstrap_peers: Vec<Multiaddr>,
    pub(super) dht_mode: Option<String>,
    pub(super) conn_manager: Option<bool>,
    pub(super) conn_lo: Option<i64>,
    pub(super) conn_hi: Option<i64>,
    pub(super) conn_grace: Option<GoDuration>,
    pub(super) conn_per_address: Option<i64>,
    pub(super) conn_burst: Option<i64>,
    pub(super) conn_refill: Option<GoDuration>,
    pub(super) conn_max: Option<i64>,
    pub(super) conn_max_inbound: Option<i64>,
    pub(super) conn_per_peer: Option<i64>,
    pub(super) memory_limit: Option<i64>,
    pub(super) streams_max: Option<i64>,
    pub(super) streams_per_conn: Option<i64>,
    pub(super) nat_port_map: Option<bool>,
    pub(super) pubsub: Option<bool>,
    pub(super) pubsub_router: Option<String>,
    pub(super) pubsub_sign: Option<bool>,
    pub(super) pubsub_sign_strict: Option<bool>,
    pub(super) heartbeat_interval: Option<GoDuration>,
    pub(super) heartbeat_delay: Option<GoDuration>,
    pub(super) relay: Option<bool>,
    pub(super) auto_relay: Option<bool>,
    pub(super) relay_discovery: Option<bool>,
    pub(super) autonat: Option<bool>,
    pub(super) host_addrs: Vec<Multiaddr>,
    pub(super) announce_addrs: Vec<Multiaddr>,
    pub(super) no_listen: Option<bool>,
    pub(super) metrics_addr: Option<String>,
    pub(super) noise: Option<bool>,
    pub(super) tls: Option<bool>,
    pub(super) plaintext: Option<bool>,
    pub(super) echo: Option<bool>,
}

impl Settings {
    /// The flags of limits that are set here.
    pub(super) fn limits(&self) -> Vec<&'static str> {
        let set = [
            ("connBurst", self.conn_burst.is_some()),
            ("connGrace", self.conn_grace.is_some()),
            ("connHi", self.conn_hi.is_some()),
            ("connLo", self.conn_lo.is_some()),
            ("connMax", self.conn_max.is_some()),
            ("connMaxInbound", self.conn_max_inbound.is_some()),
            ("connPerAddress", self.conn_per_address.is_some()),
            ("connPerPeer", self.conn_per_peer.is_some()),
            ("connRefill", self.conn_refill.is_some()),
            ("memoryLimit", self.memory_limit.is_some()),
            ("streamsMax", self.streams_max.is_some()),
            ("streamsPerConn", self.streams_per_conn.is_some()),
        ];
        let set = set.iter().filter(|(_, set)| *set);
        set.map(|(flag, _)| *flag).collect()
    }
}

/// Reads the config that `args` name: stdin wins over a file, neither means no settings.
pub(super) fn load(args: &Args, notices: &mut Vec<String>) -> Result<Settings, ConfigError> {
    let text = if args.stdin == Some(true) {
        read(std::io::stdin().lock(), Path::new("/dev/stdin"))?
    } else if let Some(path) = args
        .file
        .as_deref()
        .filter(|path| !path.as_os_str().is_empty())
    {
        let file = File::open(path).map_err(|error| {
            let reason = system_error(&error);
            ConfigError::Read(format!("open {}: {reason}", path.display()))
        })?;
        read(file, path)?
    } else {
        return Ok(Settings::default());
    };
    parse(&text, notices)
}

fn read(source: impl Read, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let path = path.display();
    let mut text = Vec::new();
    source
        .take(MAX_SIZE + 1)
        .read_to_end(&mut text)
        .map_err(|error| ConfigError::Read(format!("read {path}: {}", system_error(&error))))?;
    if text.len() as u64 > MAX_SIZE {
        let text = format!("read {path}: config is larger than {MAX_SIZE} bytes");
        return Err(ConfigError::Read(text));
    }
    Ok(text)
}

/// Reads a config; keys without effect earn a notice.
pub(super) fn parse(text: &[u8], notices: &mut Vec<String>) -> Result<Settings, ConfigError> {
    let root = Object::parse(text)?;
    let bootstrap = root.object("Bootstrap")?;
    let conn_manager = root.object("ConnectionManager")?;
    let per_address = root.object("PerAddress")?;
    let limits = root.object("Limits")?;
    let control = root.object("Control")?;
    let pubsub = root.object("PubSub")?;
    let heartbeat = pubsub.object("GossipSubHeartbeat")?;
    let relay = root.object("Relay")?;
    let security = root.object("Security")?;
    without_effect(&root, &relay, notices)?;
    Ok(Settings {
        listen: listen(&root)?,
        control_uids: control.string("Uids")?,
        control_allow: control.string("Allow")?,
        handler_any: control.bool("HandlerAllowAny")?,
        quiet: root.bool("Quiet")?,
        id: root.string("ID")?.map(PathBuf::from),
        bootstrap: bootstrap.bool("Enabled")?,
        bootstrap_peers: bootstrap.addrs("Peers")?,
        dht_mode: root.object("DHT")?.string("Mode")?,
        conn_manager: conn_manager.bool("Enabled")?,
        conn_lo: conn_manager.int("LowWaterMark")?,
        conn_hi: conn_manager.int("HighWaterMark")?,
        // Go's published schema misspells the key.
        conn_grace: conn_manager.duration(&["GracePeriod", "GradePeriod"], notices)?,
        conn_per_address: per_address.int("Connections")?,
        conn_burst: per_address.int("Burst")?,
        conn_refill: per_address.duration(&["Refill"], notices)?,
        conn_max: limits.int("Connections")?,
        conn_max_inbound: limits.int("InboundConnections")?,
        conn_per_peer: limits.int("ConnectionsPerPeer")?,
        memory_limit: limits.int("Memory")?,
        streams_max: limits.int("InboundStreams")?,
        streams_per_conn: limits.int("InboundStreamsPerConnection")?,
        nat_port_map: root.bool("NatPortMap")?,
        pubsub: pubsub.bool("Enabled")?,
        pubsub_router: pubsub.string("Router")?,
        pubsub_sign: pubsub.bool("Sign")?,
        pubsub_sign_strict: pubsub.bool("SignStrict")?,
        heartbeat_interval: heartbeat.duration(&["Interval"], notices)?,
        heartbeat_delay: heartbeat.duration(&["InitialDelay"], notices)?,
        relay: relay.bool("Enabled")?,
        auto_relay: relay.bool("Auto")?,
        relay_discovery: relay.bool("Discovery")?,
        autonat: root.bool("AutoNat")?,
        host_addrs: root.addrs("HostAddresses")?,
        announce_addrs: root.addrs("AnnounceAddresses")?,
        no_listen: root.bool("NoListen")?,
        metrics_addr: root.string("MetricsAddress")?,
        noise: security.bool("Noise")?,
        tls: security.bool("TLS")?,
        plaintext: security.bool("Plaintext")?,
        echo: root.bool("Echo")?,
    })
}

fn listen(root: &Object) -> Result<Option<ControlAddr>, ConfigError> {
    let Some((key, text)) = root.text("ListenAddr")? else {
        return Ok(None);
    };
    let addr = ControlAddr::parse(&text);
    addr.map(Some)
        .map_err(|error| ConfigError::AddressInFile { key, error })
}

/// Checks the keys that are read for their type only.
fn without_effect(
    root: &Object,
    relay: &Object,
    notices: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let profiler = root.object("PProf")?;
    // Go's published schema puts the port in another place.
    let port = profiler.uint("Port")?.or(root.uint("PProfPort")?);
    let used = [
        ("QUIC", root.bool("QUIC")? == Some(false)),
        ("PProf.Enabled", profiler.bool("Enabled")? == Some(true)),
        ("PProf.Port", port.is_some_and(|port| port != 0)),
        ("Relay.Active", relay.bool("Active")? == Some(true)),
        ("Relay.Hop", relay.bool("Hop")? == Some(true)),
        (
            "Relay.HopLimit",
            relay.int("HopLimit")?.is_some_and(|limit| limit != 0),
        ),
    ];
    let keys: Vec<&str> = used
        .iter()
        .filter_map(|(key, used)| used.then_some(*key))
        .collect();
    if !keys.is_empty() {
        notices.push(format!("config keys without effect: {}", keys.join(", ")));
    }
    Ok(())
}
