//! Every request through a real control socket: exact bytes, exact texts (COMPATIBILITY.md 3 and
//! 4).

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod conn_manager;
mod dialects;
mod dialing;
mod framing;
mod handlers;
mod hosts;
mod malformed;
mod names;
mod opening;
mod restarted;

use std::io::Read;

use libp2p::PeerId;
use rp2pd::wire::pb::{Response, response};

use support::{ControlClient, Daemon, Handler, Pipe, raw};

/// A daemon that listens for peers on 127.0.0.1.
fn node() -> Daemon {
    Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
}

/// Two daemons, the first connected to the second.
fn pair() -> (Daemon, Daemon) {
    let (a, b) = (node(), node());
    a.connect_to(&b);
    (a, b)
}

/// Sends `payload` as one frame and returns the answer.
fn ask(client: &mut ControlClient, payload: &[u8]) -> Response {
    client.send_raw(&raw::frame(payload)).expect("send");
    client.receive().expect("an answer")
}

/// The text of an ERROR; panics on OK.
fn error_text(response: &Response) -> String {
    assert_eq!(response.r#type(), response::Type::Error, "{response:?}");
    let error = response.error.as_ref().expect("an error part");
    error.msg.clone()
}

/// Asks with `payload` and returns the text of the ERROR.
fn refusal(client: &mut ControlClient, payload: &[u8]) -> String {
    error_text(&ask(client, payload))
}

/// The connection still takes requests.
fn assert_open(client: &mut ControlClient) {
    let _ = client.identify();
}

/// The daemon has ended the connection, in order.
fn assert_closed(client: &mut ControlClient) {
    let mut rest = Vec::new();
    let end = client.pipe.read_to_end(&mut rest);
    assert_eq!(end.expect("an orderly close"), 0, "unasked bytes: {rest:?}");
}

/// A CONNECT request with addresses in their binary form.
fn connect(peer: &[u8], addrs: &[&[u8]], timeout: Option<i64>) -> Vec<u8> {
    let mut body = raw::bytes(1, peer);
    for addr in addrs {
        body.extend(raw::bytes(2, addr));
    }
    body.extend(timeout.map_or_else(Vec::new, |seconds| raw::int(3, seconds)));
    [raw::int(1, 1), raw::bytes(2, &body)].concat()
}

/// A STREAM_OPEN request.
fn stream_open(peer: PeerId, protocols: &[&str]) -> Vec<u8> {
    let mut body = raw::bytes(1, &peer.to_bytes());
    for name in protocols {
        body.extend(raw::bytes(2, name.as_bytes()));
    }
    [raw::int(1, 2), raw::bytes(3, &body)].concat()
}

/// A REMOVE_STREAM_HANDLER request.
fn remove_handler(addr: &[u8], protocols: &[&str]) -> Vec<u8> {
    let mut body = raw::bytes(1, addr);
    for name in protocols {
        body.extend(raw::bytes(2, name.as_bytes()));
    }
    [raw::int(1, 10), raw::bytes(9, &body)].concat()
}

/// A JavaScript PEERSTORE request.
fn peerstore(kind: i64, id: Option<&[u8]>) -> Vec<u8> {
    let mut body = raw::int(1, kind);
    body.extend(id.map_or_else(Vec::new, |id| raw::bytes(2, id)));
    [raw::int(1, 9), raw::bytes(9, &body)].concat()
}

/// The binary form of the text address `addr`.
fn maddr(addr: &str) -> Vec<u8> {
    addr.parse::<libp2p::Multiaddr>()
        .expect("an address")
        .to_vec()
}

/// How a stream failed before it existed.
fn open_error(daemon: &Daemon, peer: PeerId, protocols: &[&str]) -> String {
    let opened = daemon.client().open_stream(peer, protocols);
    opened.map(|(info, _)| info).expect_err("a refusal")
}

/// A TCP port of 127.0.0.1 on which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("an address").port()
}
