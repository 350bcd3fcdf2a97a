//! What to do about a setting that is refused.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;

use crate::config::ConfigError;
use crate::settings::{AddrError, values_of};
use crate::wire::maddr::MaddrError;
use crate::wording::closest;

/// Protocols that an address in a setting is likely to have.
const PROTOCOLS: [&str; 14] = [
    "ip4", "ip6", "tcp", "udp", "quic-v1", "ws", "wss", "tls", "dns", "dns4", "dns6", "dnsaddr",
    "p2p", "unix",
];

pub(super) fn advice(error: &ConfigError) -> String {
    match error {
        ConfigError::File { source, .. } => match source.kind() {
            ErrorKind::NotFound => "-f must name the JSON config, or be left out",
            _ => "-f must name a JSON config that the daemon's user can read",
        }
        .into(),
        ConfigError::FileSize { .. } => "-f must name the JSON config".into(),
        ConfigError::Json(_) => "correct the JSON config; SETTINGS.md lists its keys".into(),
        ConfigError::Address { error, flag } => address(error, flag),
        ConfigError::NotP2p { address, flag } => {
            format!("{address} in {flag} does not end in /p2p/ and a peer id")
        }
        ConfigError::SocketPath(path) => match path.as_os_str().as_bytes().len() {
            length if length > 107 => {
                format!(
                    "the path has {length} bytes, a socket's at most 107: choose a shorter one with -listen"
                )
            }
            _ => "choose a path without a NUL with -listen".into(),
        },
        ConfigError::UnknownGroup(_) => {
            "-listenGroup takes a group of /etc/group, or a number".into()
        }
        ConfigError::ControlUid(_) => "-controlUids takes numbers, with commas between".into(),
        ConfigError::ControlAllow(_) => {
            "-controlAllow takes networks such as 10.0.0.0/8, with commas between".into()
        }
        ConfigError::ControlHttp(_) => {
            "-controlHttp takes an ip address and a port, as in 127.0.0.1:4010".into()
        }
        ConfigError::ControlToken => {
            "name a file with -controlToken: it is made if it is missing".into()
        }
        ConfigError::ControlOrigins(_) => {
            "-controlOrigins takes what browsers send, without a path, with commas between".into()
        }
        ConfigError::ConnExempt(_) => {
            "-connExempt takes networks such as 10.0.0.0/8, with commas between".into()
        }
        ConfigError::NoSecurity => "leave -noise or -tls on".into(),
        ConfigError::Reachability => {
            "leave -forceReachabilityPublic or -forceReachabilityPrivate out".into()
        }
        ConfigError::DhtMode(_) => "DHT.Mode is full, client or server".into(),
        ConfigError::RendezvousNamespace(_) => {
            "-rendezvousNamespace takes names of 1 to 255 bytes, with commas between".to_owned()
        }
        ConfigError::DhtNamespace(_) => {
            "-dhtNamespace takes names without a slash that are not pk or ipns, with commas between"
                .into()
        }
        ConfigError::AutoRelay => {
            "add -dht or -dhtClient and leave -relay on, or leave -autoRelay out".into()
        }
        ConfigError::NoRelaySource => {
            "name relays with -trustedRelays, or leave -relayDiscovery on".into()
        }
        ConfigError::TrustedRelays => "add -autoRelay, or leave -trustedRelays out".into(),
        ConfigError::Router(_) => {
            format!(
                "-pubsubRouter is {}",
                values_of("pubsubRouter").join(" or ")
            )
        }
        ConfigError::MaxFrame(_) => "give a size such as 4MiB, or leave it out".into(),
        ConfigError::MemoryLimit(_) => {
            "give a size such as 512MiB, or 0 for what the machine has".into()
        }
        ConfigError::PrivateNetwork => {
            "name the network's key file with -pnetKey, or unset LIBP2P_FORCE_PNET".into()
        }
        ConfigError::NotPrivate { flag, .. } => {
            format!("with -pnetKey leave everything but tcp and websocket out of {flag}")
        }
        ConfigError::SharedPort { flag, .. } => {
            format!("give tcp and websockets ports of their own in {flag}")
        }
        ConfigError::HalfCertificate => "give both -wssCert and -wssKey, or leave both out".into(),
        ConfigError::NoCertificate { .. } => {
            "name the files of a certificate and its key with -wssCert and -wssKey".into()
        }
        ConfigError::PublicPeers => {
            "with -pnetKey name peers of the network with -bootstrapPeers, or leave -b out".into()
        }
    }
}

/// What to do about an address, which came from `flag` or from the key that the error names.
fn address(error: &AddrError, flag: &str) -> String {
    let (error, place) = match error {
        AddrError::Typed(error) => (error, flag),
        AddrError::InFile { error, key } => (error, key.as_str()),
    };
    if let MaddrError::Text { text, reason } = error
        && let Some(name) = reason.strip_prefix("unknown protocol ")
        && flag == "-listen"
        && text
            .strip_prefix('/')
            .is_some_and(|path| path.starts_with(name))
    {
        return format!("a path needs /unix before it, as in {place}=/unix{text}");
    }
    if let MaddrError::Text { reason, .. } = error
        && let Some(name) = reason.strip_prefix("unknown protocol ")
        && let Some(known) = closest(name, PROTOCOLS.into_iter())
    {
        return format!("did you mean {known}, in {place}?");
    }
    let example = match flag {
        "-listen" => "/unix/run/p2pd.sock or /ip4/127.0.0.1/tcp/5001",
        "-bootstrapPeers" | "-trustedRelays" => "/ip4/192.0.2.1/tcp/4001/p2p/PEER_ID",
        _ => "/ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1",
    };
    format!("{place} takes an address such as {example}")
}
