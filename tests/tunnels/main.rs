//! Tunnels: local ports carried to services beside other daemons (PROTOCOL.md 7).

#[path = "../support/mod.rs"]
mod support;

mod access;
mod circuits;
mod ends;
mod hostile;
mod program;
mod requests;
mod seen;
mod service;
mod shutdown;
mod speed;

use std::io;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use rp2pd::wire::pb::{Request, TunnelInfo, TunnelRequest, request, tunnel_request::Type};

use support::control::typed;
use support::{ControlClient, Daemon, PATIENCE, eventually};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

const NAME: &str = "/x/service";

fn node() -> Daemon {
    Daemon::spawn(&[LISTEN])
}

/// Two daemons, the first connected to the second.
fn pair() -> (Daemon, Daemon) {
    let (near, far) = (node(), node());
    near.connect_to(&far);
    (near, far)
}

fn of(kind: Type) -> TunnelRequest {
    TunnelRequest {
        r#type: Some(i64::from(kind as i32)),
        ..TunnelRequest::default()
    }
}

fn bytes(addr: &str) -> Option<Bytes> {
    let addr: Multiaddr = addr.parse().expect("an address");
    Some(addr.to_vec().into())
}

fn tcp(addr: SocketAddr) -> Option<Bytes> {
    bytes(&format!("/ip4/{}/tcp/{}", addr.ip(), addr.port()))
}

/// Any free port, which leads to `peer`.
fn forward(peer: PeerId) -> TunnelRequest {
    TunnelRequest {
        proto: Some(NAME.into()),
        listen: bytes("/ip4/127.0.0.1/tcp/0"),
        peer: Some(peer.to_bytes().into()),
        keep: Some(true),
        ..of(Type::Forward)
    }
}

/// A service that every peer may use.
fn expose(target: SocketAddr) -> TunnelRequest {
    TunnelRequest {
        proto: Some(NAME.into()),
        target: tcp(target),
        any_peer: Some(true),
        keep: Some(true),
        ..of(Type::Expose)
    }
}

fn ask_of(client: &mut ControlClient, wanted: TunnelRequest) -> Result<Vec<TunnelInfo>, String> {
    let request = Request {
        tunnel: Some(Box::new(wanted)),
        ..typed(request::Type::Tunnel)
    };
    let answer = client.ask(&request)?;
    Ok(answer.tunnel.expect("a tunnel part").tunnels)
}

fn ask(daemon: &Daemon, wanted: TunnelRequest) -> Result<Vec<TunnelInfo>, String> {
    ask_of(&mut daemon.client(), wanted)
}

/// The tunnel that has been made.
fn made(daemon: &Daemon, wanted: TunnelRequest) -> TunnelInfo {
    let mut told = ask(daemon, wanted).expect("a tunnel");
    assert_eq!(told.len(), 1);
    told.remove(0)
}

fn list(daemon: &Daemon) -> Vec<TunnelInfo> {
    ask(daemon, of(Type::List)).expect("LIST")
}

/// The only tunnel.
fn only(daemon: &Daemon) -> TunnelInfo {
    let mut all = list(daemon);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn close(daemon: &Daemon, ids: &[u64]) -> Result<Vec<TunnelInfo>, String> {
    let wanted = TunnelRequest {
        ids: ids.to_vec(),
        ..of(Type::Close)
    };
    ask(daemon, wanted)
}

/// The port that a forward listens on.
fn port(tunnel: &TunnelInfo) -> SocketAddr {
    let addr = Multiaddr::try_from(tunnel.addr.to_vec()).expect("an address");
    let mut parts = addr.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        _ => panic!("{addr}"),
    }
}

fn dial(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&addr, PATIENCE).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// A forward of `near` to a service beside `far` at `target`; where it listens.
fn carried(near: &Daemon, far: &Daemon, target: SocketAddr) -> SocketAddr {
    made(far, expose(target));
    port(&made(near, forward(far.peer_id())))
}

/// Asserts that a connection to `addr` is reset, as soon as it is there or later.
fn assert_refused(addr: SocketAddr) {
    match TcpStream::connect_timeout(&addr, PATIENCE) {
        Ok(mut socket) => {
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            assert_reset(&mut socket);
        }
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Asserts that the other end resets `socket`, after whatever it has sent.
fn assert_reset(socket: &mut impl io::Read) {
    let ended = io::copy(socket, &mut io::sink());
    let kind = ended.as_ref().map_err(io::Error::kind);
    assert_eq!(
        kind.err(),
        Some(io::ErrorKind::ConnectionReset),
        "{ended:?}"
    );
}

/// Waits until the tunnels of `daemon` have as many connections.
fn await_open(daemon: &Daemon, count: u32) {
    let open = || list(daemon).iter().map(|one| one.open).sum::<u32>();
    assert!(
        eventually(PATIENCE, || open() == count),
        "{} instead of {count}: {:?}",
        open(),
        list(daemon)
    );
}
