//! Peers at one address, in a network namespace where they are at public addresses that are no
//! interface's. A peer that does not listen comes from the address it dials.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;

use super::addresses::connect;
use super::*;
use crate::support::Socket;

const LISTEN: &str = "-hostAddrs=/ip4/203.0.113.1/tcp/0";
const COUNT: &str = "inbound connections from one address";
const RATE: &str = "new inbound connections from one address";

/// Connects `count` daemons to `daemon`, each given these flags. Those whose CONNECT succeeds are
/// connected, and no others.
fn peers_connected(daemon: &Daemon, count: usize, flags: &[&str]) -> Vec<Daemon> {
    let peers: Vec<Daemon> = (0..count).map(|_| Daemon::spawn(flags)).collect();
    let begun = Instant::now();
    let mut kept = Vec::new();
    for peer in peers {
        let connected = peer
            .client()
            .connect_to(daemon.peer_id(), daemon.addrs())
            .is_ok();
        if connected {
            kept.push(peer);
        }
    }
    // Whoever is refused learns of it at once, not at the deadline of a minute.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let seen = daemon.client().list_peers().len();
    assert_eq!(seen, kept.len(), "OK means connected");
    kept
}

pub fn one_address_has_eight_connections() {
    let daemon = Daemon::spawn(&[LISTEN]);
    let peers = peers_connected(&daemon, 10, &["-noListenAddrs"]);
    assert_eq!(peers.len(), 8);
    assert!(daemon.bites(COUNT) >= 2, "some dial once more");
    // Once those have gone their places are free again.
    drop(peers);
    assert!(eventually(PATIENCE, || daemon
        .client()
        .list_peers()
        .is_empty()));
    let peer = Daemon::spawn(&["-noListenAddrs"]);
    peer.connect_to(&daemon);
    assert!(eventually(PATIENCE, || daemon.client().list_peers().len() == 1));
}

fn socket_addr(daemon: &Daemon) -> SocketAddr {
    let mut parts = daemon.addrs()[0].iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        (Some(Protocol::Ip6(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        other => panic!("{other:?}"),
    }
}

/// What a connection begins with.
const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";

/// Connections from `from` that are answered, of 40; all are open at the same time.
fn taken(daemon: &Daemon, from: &str) -> usize {
    answered(socket_addr(daemon), from).0
}

fn answered(at: SocketAddr, from: &str) -> (usize, Vec<Socket>) {
    let mut sockets: Vec<Socket> = (0..40)
        .map(|_| connect(from, at).expect("connect"))
        .collect();
    // The last one is answered, or refused, after all others were accepted.
    let answered = sockets.iter_mut().rev().filter_map(|socket| {
        // One that is refused may have gone already.
        let _ = socket.write_all(HELLO);
        socket.read_exact(&mut [0; HELLO.len()]).ok()
    });
    (answered.count(), sockets)
}

pub fn one_address_connects_sixteen_times_at_once() {
    // Nothing is given back within the test.
    let daemon = Launch::new()
        .args([LISTEN, "-connPerAddress=0", "-connRefill=1h"])
        .env("GOLOG_LOG_LEVEL", "warn")
        .spawn();
    assert_eq!(taken(&daemon, "203.0.113.2"), 16);
    assert_eq!(daemon.bites(RATE), 24);
    // Another address has a burst of its own.
    assert_eq!(taken(&daemon, "203.0.113.3"), 16);
    assert_eq!(daemon.bites(RATE), 48);
    assert_eq!(taken(&daemon, "203.0.113.2"), 0);
    // 88 refusals, one line.
    assert_eq!(daemon.bites(RATE), 88);
    let lines = || daemon.stderr().matches("limit reached").count();
    assert!(eventually(PATIENCE, || lines() > 0));
    assert_eq!(lines(), 1);
    // And one for each address, which names the flags.
    let told = |text: &str| daemon.stderr().matches(text).count();
    assert!(eventually(PATIENCE, || told("-connBurst and -connRefill") >= 2));
    assert_eq!(told("-connBurst"), 2);
    assert_eq!(told("-connExempt=203.0.113.2/32"), 1);
}

pub fn quic_counts_as_well() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip4/203.0.113.1/udp/0/quic-v1"]);
    assert_eq!(peers_connected(&daemon, 10, &["-noListenAddrs"]).len(), 8);
    assert!(daemon.bites(COUNT) >= 2, "some dial once more");
}

pub fn customers_and_sites_of_ipv6_count_as_in_go() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip6/2001:db8:ffff::1/tcp/0", "-connRefill=1h"]);
    let at = socket_addr(&daemon);
    // Of a customer's sixteen new connections the first eight give way to the others: none of
    // them says more than the other.
    let mut held: Vec<Socket> = Vec::new();
    let mut taken = |from: &str| {
        let (answered, sockets) = answered(at, from);
        held.extend(sockets);
        answered
    };
    assert_eq!(taken("2001:db8:0:100::1"), 8);
    assert_eq!(daemon.bites(RATE), 24);
    // Another /64 of the same customer has nothing left.
    assert_eq!(taken("2001:db8:0:1ff::1"), 0);
    assert_eq!(daemon.bites(RATE), 64);
    // Four further customers of that site have as much. Then it has used up its 80.
    for customer in 2..6 {
        assert_eq!(taken(&format!("2001:db8:0:{customer}00::1")), 8);
    }
    assert_eq!(taken("2001:db8:0:700::1"), 0);
    assert_eq!(taken("2001:db8:1:700::1"), 8);
}

pub fn limits_of_addresses_may_be_in_the_file() {
    let json = r#"{"HostAddresses": ["/ip4/10.9.0.1/tcp/0"],
        "PerAddress": {"Connections": 2, "Burst": 5, "Refill": "1h"}}"#;
    let (launch, _file) = with_file(Launch::new(), json);
    let daemon = launch.spawn();
    let peers = peers_connected(&daemon, 4, &["-noListenAddrs"]);
    assert_eq!(peers.len(), 2, "what is set holds for private addresses");
    assert!(daemon.bites(COUNT) >= 2, "some dial once more");
    assert_eq!(taken(&daemon, "10.9.0.2"), 2);
    // As do those here.
    let refused = daemon.bites(RATE);
    assert!((35..=39).contains(&refused), "{refused}");
    let json = r#"{"HostAddresses": ["/ip4/203.0.113.1/tcp/0"],
        "PerAddress": {"Exempt": "203.0.113.2,2001:db8::/32", "Refill": "1h"}}"#;
    let (launch, _file) = with_file(Launch::new(), json);
    let daemon = launch.spawn();
    assert_eq!(taken(&daemon, "203.0.113.2"), 40);
    assert_eq!(taken(&daemon, "203.0.113.3"), 8);
}

/// On each transport: an ERROR, and the operator is told once, without asking for a log.
pub fn who_is_refused_hears_so_before_the_handshake() {
    for transport in ["tcp/0", "udp/0/quic-v1", "tcp/0/ws"] {
        let daemon = Daemon::spawn(&[
            &format!("-hostAddrs=/ip4/203.0.113.1/{transport}"),
            "-connPerAddress=1",
            "-connBurst=0",
        ]);
        let peers = peers_connected(&daemon, 6, &["-noListenAddrs"]);
        assert_eq!(peers.len(), 1, "{transport}");
        let refused = daemon.bites(COUNT);
        assert!(refused >= 5, "{refused} on {transport}");
        let told = || daemon.stderr().matches("-connPerAddress").count();
        assert!(eventually(PATIENCE, || told() > 0));
        assert_eq!(told(), 1, "{transport}: {}", daemon.stderr());
        if transport == "tcp/0" {
            assert_eq!(taken(&daemon, "203.0.113.9"), 1, "another address");
        }
    }
}

pub fn private_addresses_have_far_more() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip4/10.9.0.1/tcp/0"]);
    assert_eq!(taken(&daemon, "10.9.0.2"), 40);
    assert_eq!((daemon.bites(COUNT), daemon.bites(RATE)), (0, 0));
}

pub fn exempt_networks_have_no_limit() {
    let daemon = Daemon::spawn(&[LISTEN, "-connExempt=192.0.2.7,203.0.113.0/30"]);
    assert_eq!(taken(&daemon, "203.0.113.2"), 40);
    assert_eq!((daemon.bites(COUNT), daemon.bites(RATE)), (0, 0));
    assert_eq!(taken(&daemon, "203.0.113.4"), 8);
    assert!(daemon.bites(COUNT) > 0 && daemon.bites(RATE) > 0);
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
                if let Ok(mut socket) = connect("203.0.113.2", at) {
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
    assert_eq!(peers_connected(&daemon, 10, &["-noListenAddrs"]).len(), 10);
    assert_eq!(taken(&daemon, "203.0.113.2"), 40);
    assert_eq!((daemon.bites(COUNT), daemon.bites(RATE)), (0, 0));
}
