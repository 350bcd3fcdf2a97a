//! Peers at one address, in a network namespace where all of them have 10.9.0.1 or 10.9.0.2.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use rp2pd::wire::pb::ConnectRequest;

use super::addresses::connect;
use super::*;
use crate::support::Socket;

const LISTEN: &str = "-hostAddrs=/ip4/10.9.0.1/tcp/0";
const COUNT: &str = "inbound connections from one address";
const RATE: &str = "new inbound connections from one address";

/// Connects `count` daemons to `daemon`; how many of them stay connected.
fn peers_connected(daemon: &Daemon, count: usize) -> usize {
    let peers: Vec<Daemon> = (0..count)
        .map(|_| Daemon::spawn(&["-noListenAddrs"]))
        .collect();
    let mut request = typed(request::Type::Connect);
    request.connect = Some(ConnectRequest {
        peer: Some(daemon.peer_id().to_bytes().into()),
        addrs: daemon
            .addrs()
            .iter()
            .map(|addr| addr.to_vec().into())
            .collect(),
        timeout: None,
    });
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for peer in &peers {
            scope.spawn(|| drop(peer.client().request(&request)));
        }
    });
    // Whoever is refused learns of it only after its own handshake, and waits for an identify
    // that never comes: until the connection ends, not until the deadline of a minute.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let mut seen = 0;
    let settled = eventually(PATIENCE, || {
        // In this order: where one has been refused, all places are taken.
        let refused = usize::try_from(daemon.bites(COUNT)).expect("a count");
        seen = daemon.client().list_peers().len();
        seen + refused >= count
    });
    assert!(settled, "{seen} of {count}");
    seen
}

pub fn one_address_has_eight_connections() {
    let daemon = Daemon::spawn(&[LISTEN]);
    assert_eq!(peers_connected(&daemon, 10), 8);
    // Those have gone; their places are free again.
    assert!(eventually(PATIENCE, || daemon
        .client()
        .list_peers()
        .is_empty()));
    let peer = Daemon::spawn(&["-noListenAddrs"]);
    peer.connect_to(&daemon);
    assert!(eventually(PATIENCE, || daemon.client().list_peers().len() == 1));
    assert!(daemon.bites(COUNT) >= 2, "some dial once more");
}

fn socket_addr(daemon: &Daemon) -> SocketAddr {
    let mut parts = daemon.addrs()[0].iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        other => panic!("{other:?}"),
    }
}

/// What a connection begins with.
const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";

/// Connections from `from` that are answered, of 40; all are open at the same time.
fn taken(daemon: &Daemon, from: &str) -> usize {
    answered(socket_addr(daemon), from)
}

fn answered(at: SocketAddr, from: &str) -> usize {
    let mut sockets: Vec<Socket> = (0..40)
        .map(|_| connect(from, at).expect("connect"))
        .collect();
    let answered = sockets.iter_mut().filter_map(|socket| {
        // One that is refused may have gone already.
        let _ = socket.write_all(HELLO);
        socket.read_exact(&mut [0; HELLO.len()]).ok()
    });
    answered.count()
}

pub fn one_address_connects_sixteen_times_at_once() {
    // Nothing is given back within the test.
    let daemon = Launch::new()
        .args([LISTEN, "-connRefill=1h"])
        .env("GOLOG_LOG_LEVEL", "warn")
        .spawn();
    assert_eq!(taken(&daemon, "10.9.0.2"), 16);
    assert_eq!(daemon.bites(RATE), 24);
    // Another address has a burst of its own.
    assert_eq!(taken(&daemon, "10.9.0.3"), 16);
    assert_eq!(daemon.bites(RATE), 48);
    assert_eq!(taken(&daemon, "10.9.0.2"), 0);
    // 88 refusals, one line.
    assert_eq!(daemon.bites(RATE), 88);
    let lines = || daemon.stderr().matches("limit reached").count();
    assert!(eventually(PATIENCE, || lines() > 0));
    assert_eq!(lines(), 1);
}

pub fn quic_counts_as_well() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip4/10.9.0.1/udp/0/quic-v1"]);
    assert_eq!(peers_connected(&daemon, 10), 8);
    assert!(daemon.bites(COUNT) >= 2, "some dial once more");
}

pub fn half_an_ipv6_address_is_one_address() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip6/fd00:9::1/tcp/0", "-connRefill=1h"]);
    let mut parts = daemon.addrs()[0].iter();
    let at: SocketAddr = match (parts.next(), parts.next()) {
        (Some(Protocol::Ip6(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        other => panic!("{other:?}"),
    };
    // The kernel may be about to make the routes still; udp finds them without a packet.
    for from in ["[fd00:9::1]:0", "[fd00:9::2]:0"] {
        assert!(eventually(PATIENCE, || {
            UdpSocket::bind(from).is_ok_and(|socket| socket.connect(at).is_ok())
        }));
    }
    assert_eq!(answered(at, "fd00:9::1"), 16);
    assert_eq!(answered(at, "fd00:9::2"), 0);
    assert_eq!(daemon.bites(RATE), 64);
}

pub fn limits_of_addresses_may_be_in_the_file() {
    let json = r#"{"HostAddresses": ["/ip4/10.9.0.1/tcp/0"],
        "PerAddress": {"Connections": 2, "Burst": 5, "Refill": "1h"}}"#;
    let (launch, _file) = with_file(Launch::new(), json);
    let daemon = launch.spawn();
    assert_eq!(peers_connected(&daemon, 4), 2);
    assert!(daemon.bites(COUNT) >= 2, "some dial once more");
    // Four of the five have been, or all: whoever is refused may dial once more.
    assert!(taken(&daemon, "10.9.0.1") <= 1);
    assert_eq!(taken(&daemon, "10.9.0.2"), 5);
}

pub fn an_address_that_storms_keeps_nobody_else_out() {
    let daemon = Daemon::spawn(&[LISTEN]);
    let (at, over) = (socket_addr(&daemon), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // As fast as it can; some say a word, all stay open for a while.
        let storm = scope.spawn(|| {
            let mut open = VecDeque::new();
            let mut made = 0_u64;
            while !over.load(Ordering::Relaxed) {
                if let Ok(mut socket) = connect("10.9.0.2", at) {
                    let _ = socket.write_all(HELLO);
                    made += 1;
                    open.push_back(socket);
                }
                if open.len() > 500 {
                    open.pop_front();
                }
            }
            made
        });
        let mut slowest = Duration::ZERO;
        let stormed = eventually(PATIENCE, || daemon.bites(RATE) > 1000);
        let mut peers = Vec::new();
        // As many as one address may have.
        for _ in 0..8 {
            let peer = Daemon::spawn(&["-noListenAddrs"]);
            let begun = Instant::now();
            peer.connect_to(&daemon);
            slowest = slowest.max(begun.elapsed());
            let begun = Instant::now();
            assert_eq!(daemon.client().identify().0, daemon.peer_id());
            slowest = slowest.max(begun.elapsed());
            peers.push(peer);
        }
        over.store(true, Ordering::Relaxed);
        let made = storm.join().expect("the storm");
        let refused = daemon.bites(RATE);
        println!("{made} connections, {refused} refused, slowest step of others {slowest:?}");
        assert!(stormed, "{refused} of {made} refused");
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
}

pub fn limits_of_addresses_can_be_off() {
    let daemon = Daemon::spawn(&[LISTEN, "-connPerAddress=0", "-connBurst=0"]);
    assert_eq!(peers_connected(&daemon, 10), 10);
    assert_eq!(taken(&daemon, "10.9.0.2"), 40);
    assert_eq!((daemon.bites(COUNT), daemon.bites(RATE)), (0, 0));
}
