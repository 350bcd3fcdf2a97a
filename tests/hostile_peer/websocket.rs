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
    half_messages("-hostAddrs=/ip4/127.0.0.1/tcp/0/ws");
}

/// The same where the first byte tells that they are websockets.
pub fn half_messages_to_a_shared_port_within_128_mib() {
    half_messages(&shared());
}

/// Tcp and websockets on one port that was free a moment ago.
fn shared() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = format!(
        "/ip4/127.0.0.1/tcp/{}",
        free.local_addr().expect("an address").port()
    );
    format!("-hostAddrs={at}/ws,{at}")
}

/// Nobody can tell what a silent connection would speak. It has a place like any handshake, and
/// gives way like one.
pub fn silence_on_a_shared_port() {
    let scene = Scene::new(&[&shared()]);
    scene.under("silence", Streams::New, |crowd| {
        let at = address(&scene.victim);
        let open = |_| TcpStream::connect(at).expect("connect");
        let silent: Vec<TcpStream> = (0..2 * PENDING).map(open).collect();
        let gave_way = || scene.victim.bites(GAVE_WAY) >= PENDING as u64 / 2;
        assert!(crate::support::eventually(PATIENCE, gave_way));
        Daemon::spawn(&["-noListenAddrs"]).connect_to(&scene.victim);
        crowd.await_rounds(ENOUGH);
        // They are given up, all of them.
        let begun = std::time::Instant::now();
        for mut socket in silent {
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let end = socket.read(&mut [0]);
            let over = |error: std::io::Error| error.kind() == ErrorKind::ConnectionReset;
            assert!(matches!(end, Ok(0)) || end.is_err_and(over));
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
    });
}

fn half_messages(listen: &str) {
    let Some(group) = Group::with_limit(LIMIT) else {
        return;
    };
    let scene = Scene::in_group(Some(group), &[listen]);
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
