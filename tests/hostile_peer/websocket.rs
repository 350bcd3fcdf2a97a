//! Handshakes over websockets, whose messages have a size of their own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use libp2p::multiaddr::Protocol;

use super::*;
use crate::support::PATIENCE;

/// What the daemon may use.
const LIMIT: u64 = 128 << 20;

/// The largest message that is accepted, in bytes. No handshake needs a fraction of it.
const MESSAGE: usize = 1 << 20;

/// As many as there may be handshakes.
const PENDING: usize = 256;

const GAVE_WAY: &str = "inbound connections being secured";

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Version: 13\r\n\r\n";

/// Where peers reach `daemon` by websocket.
fn address(daemon: &Daemon) -> SocketAddr {
    let mut parts = daemon.addrs()[0].iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        other => panic!("{other:?}"),
    }
}

/// A websocket on which a message of the largest size was sent but for its last byte. How many
/// bytes of it were taken.
fn half_message(at: SocketAddr) -> std::io::Result<(TcpStream, usize)> {
    let mut socket = TcpStream::connect(at)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(UPGRADE.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
    // Whole, binary, masked with zeros.
    let head = [&[0x82, 0xff][..], &(MESSAGE as u64).to_be_bytes(), &[0; 4]];
    socket.write_all(&head.concat())?;
    socket.set_write_timeout(Some(Duration::from_millis(500)))?;
    let body = vec![7; MESSAGE - 1];
    let mut sent = 0;
    while sent < body.len() {
        match socket.write(&body[sent..]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok((socket, sent))
}

/// Twice what the daemon may use, if it held all of it.
pub fn half_messages_within_128_mib() {
    let Some(group) = Group::with_limit(LIMIT) else {
        return;
    };
    let scene = Scene::in_group(Some(group), &["-hostAddrs=/ip4/127.0.0.1/tcp/0/ws"]);
    scene.under("half messages", Streams::New, |crowd| {
        let at = address(&scene.victim);
        let mut open = Vec::new();
        let mut taken = 0;
        for number in 0..PENDING {
            // One of the first may have given way when it is written to.
            let half = half_message(at).unwrap_or_else(|error| panic!("{number}: {error}"));
            taken += half.1;
            open.push(half.0);
        }
        println!("{} MiB taken", taken >> 20);
        assert!(taken as u64 > LIMIT, "{taken} bytes taken");
        assert!(scene.victim.bites(GAVE_WAY) > 0, "nothing gave way");
        crowd.await_rounds(ENOUGH);
    });
}
