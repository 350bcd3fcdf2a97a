//! `rp2pd forward`, `expose` and `tunnels`: local ports carried to peers (PROTOCOL.md 7).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    super::table::{Table, size},
    ANSWER, CommandError,
    dials::Named,
};
use crate::{
    client::{Client, ClientError},
    telemetry::escaped,
    wire::{
        maddr::{ControlAddr, Host},
        pb::{self, event, request, tunnel_request::Type},
    },
};

/// Between two looks at a daemon that tells nothing.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a service is named whose name is a plain word, as `ipfs p2p` has it.
const PREFIX: &str = "/x/";

/// Carries a port of this host to what `peer` exposes by `name`. Without `keep` until the daemon
/// ends, and tells of connections that fail.
///
/// # Errors
/// [`CommandError`].
pub fn forward(
    daemon: &ControlAddr,
    name: &str,
    peer: &str,
    listen: Option<&str>,
    keep: bool,
    tell: impl FnMut(String),
) -> Result<(), CommandError> {
    let named = Named::read(peer)?;
    let listen = place(listen.unwrap_or("0"))?;
    let wanted = pb::TunnelRequest {
        any_interface: Some(!is_loopback(&listen)),
        proto: Some(protocol(name)),
        listen: Some(listen.to_bytes().into()),
        peer: Some(named.peer.to_bytes().into()),
        addrs: named
            .address
            .iter()
            .map(|one| one.to_vec().into())
            .collect(),
        ..request_of(Type::Forward, keep)
    };
    made(daemon, wanted, keep, tell)
}

/// Lets the peers `allow`, or all if nobody is named, use the service at `target` by `name`. Without
/// `keep` until the daemon ends, and tells of connections that fail.
///
/// # Errors
/// [`CommandError`].
pub fn expose(
    daemon: &ControlAddr,
    name: &str,
    target: &str,
    allow: &[String],
    keep: bool,
    tell: impl FnMut(String),
) -> Result<(), CommandError> {
    let peers = allow
        .iter()
        .map(|peer| Named::read(peer).map(|named| named.peer));
    let peers: Vec<PeerId> = peers.collect::<Result<_, _>>()?;
    let wanted = pb::TunnelRequest {
        proto: Some(protocol(name)),
        target: Some(place(target)?.to_bytes().into()),
        any_peer: Some(peers.is_empty()),
        allow: peers.iter().map(|peer| peer.to_bytes().into()).collect(),
        ..request_of(Type::Expose, keep)
    };
    made(daemon, wanted, keep, tell)
}

/// The tunnels of the daemon, as a table.
///
/// # Errors
/// [`CommandError`].
pub fn list(daemon: &ControlAddr) -> Result<String, CommandError> {
    let mut client = Client::connect(daemon, ANSWER)?;
    let told = ask(&mut client, daemon, request_of(Type::List, false))?;
    let mut table = Table::new(&[
        "NUMBER", "KIND", "NAME", "PLACE", "PEERS", "OPEN", "SO FAR", "FAILED", "RECEIVED", "SENT",
    ]);
    for one in &told {
        table.row([
            one.id.to_string(),
            match one.r#type() {
                Type::Expose => "expose",
                _ => "forward",
            }
            .to_owned(),
            shown(&one.proto),
            address(&one.addr),
            match (&one.peer, one.allow.len()) {
                (Some(peer), _) => peer_text(peer),
                (None, 0) => "all".to_owned(),
                (None, 1) => peer_text(&one.allow[0]),
                (None, count) => count.to_string(),
            },
            one.open.to_string(),
            one.total.to_string(),
            one.failed.to_string(),
            size(one.received).replace(' ', ""),
            size(one.sent).replace(' ', ""),
        ]);
    }
    let mut text = table.text();
    for one in &told {
        if let Some(error) = &one.error {
            text += &format!("{}: the last one that failed: {}\n", one.id, escaped(error));
        }
    }
    Ok(text)
}

/// Ends tunnels.
///
/// # Errors
/// [`CommandError`].
pub fn close(daemon: &ControlAddr, ids: &[u64]) -> Result<(), CommandError> {
    let wanted = pb::TunnelRequest {
        ids: ids.to_vec(),
        ..request_of(Type::Close, false)
    };
    let mut client = Client::connect(daemon, ANSWER)?;
    ask(&mut client, daemon, wanted)?;
    Ok(())
}

/// Makes a tunnel, and looks after it unless it is kept.
fn made(
    daemon: &ControlAddr,
    wanted: pb::TunnelRequest,
    keep: bool,
    mut tell: impl FnMut(String),
) -> Result<(), CommandError> {
    // Before the tunnel is there, so that no failure is missed.
    let mut events = Client::connect(daemon, ANSWER)?;
    if !keep {
        let request = pb::Request {
            r#type: Some(i32::from(request::Type::Events).into()),
            events: Some(pb::EventsRequest {
                kinds: vec![event::Kind::TunnelFailed.into()],
                present: None,
            }),
            ..pb::Request::default()
        };
        events.ask_own(&request, ANSWER)?;
    }
    let mut client = Client::connect(daemon, ANSWER)?;
    let told = ask(&mut client, daemon, wanted)?;
    let tunnel = told.first();
    let tunnel = tunnel.ok_or_else(|| ClientError::Unknown(daemon.clone()))?;
    tell(described(tunnel));
    if keep {
        return Ok(());
    }
    loop {
        let told = match events.next(PATIENCE) {
            Ok(told) => told,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
            Err(source) => {
                let addr = daemon.clone();
                return Err(ClientError::Io { addr, source }.into());
            }
        };
        let Some(event) = told.event else { continue };
        if event.proto.as_ref() == Some(&tunnel.proto) && event.addrs.contains(&tunnel.addr) {
            let reason = event.reason.unwrap_or_default();
            tell(format!("a connection failed: {}", escaped(&reason)));
        }
    }
}

fn described(tunnel: &pb::TunnelInfo) -> String {
    let (id, name, place) = (tunnel.id, shown(&tunnel.proto), address(&tunnel.addr));
    match (&tunnel.peer, tunnel.allow.len()) {
        (Some(peer), _) => format!("{id}: {place} leads to {name} of {}", peer_text(peer)),
        (None, 0) => format!("{id}: {name} leads to {place} for every peer"),
        (None, 1) => format!(
            "{id}: {name} leads to {place} for {}",
            peer_text(&tunnel.allow[0])
        ),
        (None, peers) => format!("{id}: {name} leads to {place} for {peers} peers"),
    }
}

fn ask(
    client: &mut Client,
    daemon: &ControlAddr,
    wanted: pb::TunnelRequest,
) -> Result<Vec<pb::TunnelInfo>, ClientError> {
    let request = pb::Request {
        r#type: Some(i32::from(request::Type::Tunnel).into()),
        tunnel: Some(Box::new(wanted)),
        ..pb::Request::default()
    };
    let answer = client.ask_own(&request, ANSWER)?;
    let tunnels = answer.tunnel.map(|told| told.tunnels);
    tunnels.ok_or_else(|| ClientError::Unknown(daemon.clone()))
}

fn request_of(kind: Type, keep: bool) -> pb::TunnelRequest {
    pb::TunnelRequest {
        r#type: Some(i32::from(kind).into()),
        keep: keep.then_some(true),
        ..pb::TunnelRequest::default()
    }
}

fn protocol(name: &str) -> Bytes {
    match name.starts_with('/') {
        true => Bytes::copy_from_slice(name.as_bytes()),
        false => format!("{PREFIX}{name}").into(),
    }
}

/// A multiaddr, `HOST:PORT`, or a port of loopback.
fn place(text: &str) -> Result<ControlAddr, CommandError> {
    let wrong = || CommandError::Place(escaped(text));
    if text.starts_with('/') {
        return ControlAddr::parse(text).map_err(|_| wrong());
    }
    let of = |ip: IpAddr, port| {
        let host = match ip {
            IpAddr::V4(ip) => Host::Ip4(ip),
            IpAddr::V6(ip) => Host::Ip6(ip),
        };
        ControlAddr::Tcp { host, port }
    };
    if let Ok(port) = text.parse() {
        return Ok(of([127, 0, 0, 1].into(), port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(of(address.ip(), address.port()));
    }
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    match name {
        "" | "localhost" => Ok(of([127, 0, 0, 1].into(), port)),
        name if name.contains([':', '/', '[']) => Err(wrong()),
        name => Ok(ControlAddr::Tcp {
            host: Host::Dns(name.to_owned()),
            port,
        }),
    }
}

fn is_loopback(addr: &ControlAddr) -> bool {
    match addr {
        ControlAddr::Tcp { host, .. } => match host {
            Host::Ip4(ip) => ip.is_loopback(),
            Host::Ip6(ip) => IpAddr::from(*ip).to_canonical().is_loopback(),
            Host::Dns(_) | Host::Dns4(_) | Host::Dns6(_) => false,
        },
        ControlAddr::Unix(_) => true,
    }
}

fn shown(name: &Bytes) -> String {
    escaped(&String::from_utf8_lossy(name))
}

/// As people write it.
fn address(bytes: &Bytes) -> String {
    match ControlAddr::from_bytes(bytes) {
        Ok(ControlAddr::Tcp { host, port }) => match host {
            Host::Ip4(ip) => format!("{ip}:{port}"),
            Host::Ip6(ip) => format!("[{ip}]:{port}"),
            Host::Dns(name) | Host::Dns4(name) | Host::Dns6(name) => {
                format!("{}:{port}", escaped(&name))
            }
        },
        Ok(ControlAddr::Unix(path)) => escaped(&path.to_string_lossy()),
        Err(_) => String::new(),
    }
}

fn peer_text(bytes: &Bytes) -> String {
    PeerId::from_bytes(bytes).map_or_else(|_| String::new(), |peer| peer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ports_addresses_and_names() {
        let text = |text: &str| place(text).map(|addr| addr.to_string());
        for (given, meant) in [
            ("8080", "/ip4/127.0.0.1/tcp/8080"),
            (":8080", "/ip4/127.0.0.1/tcp/8080"),
            ("localhost:8080", "/ip4/127.0.0.1/tcp/8080"),
            ("0.0.0.0:80", "/ip4/0.0.0.0/tcp/80"),
            ("[::1]:80", "/ip6/::1/tcp/80"),
            ("web.lan:80", "/dns/web.lan/tcp/80"),
            ("/unix/tmp/x.sock", "/unix/tmp/x.sock"),
            ("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"),
        ] {
            assert_eq!(text(given).ok().as_deref(), Some(meant), "{given}");
        }
        for given in [
            "",
            "x",
            "80:",
            "a:b",
            "99999",
            "::1",
            "/ip4/127.0.0.1",
            "[a:1",
        ] {
            assert!(text(given).is_err(), "{given}");
        }
        assert!(is_loopback(&place("1").expect("a port")));
        assert!(!is_loopback(&place("0.0.0.0:1").expect("an address")));
        assert_eq!(
            (protocol("web"), protocol("/a/b")),
            ("/x/web".into(), "/a/b".into())
        );
    }
}
