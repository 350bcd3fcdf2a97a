//! CONNECT: outcomes, texts, time limits (COMPATIBILITY.md 4.5).

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;

use super::*;
use crate::support::PATIENCE;

pub(super) fn refused(client: &mut ControlClient, peer: PeerId, addrs: &[&str]) -> String {
    let addrs: Vec<Vec<u8>> = addrs.iter().map(|addr| maddr(addr)).collect();
    let addrs: Vec<&[u8]> = addrs.iter().map(Vec::as_slice).collect();
    refusal(client, &connect(&peer.to_bytes(), &addrs, None))
}

#[test]
fn connect_returns_after_identify() {
    let (a, b) = (node(), node());
    for _ in 0..20 {
        let mut client = a.client();
        client.connect_peer(b.peer_id(), b.addrs());
        let answer = ask(&mut client, &peerstore(1, Some(&b.peer_id().to_bytes())));
        let protocols =
            support::control::texts(&answer.peer_store.expect("a peerStore part").protos);
        assert!(protocols.contains(&"/ipfs/id/1.0.0".to_owned()));
        client.disconnect(b.peer_id());
    }
}

#[test]
fn connecting_again_needs_no_address_that_works() {
    let (a, b) = pair();
    let dead: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", closed_port())
        .parse()
        .expect("addr");
    let mut client = a.client();
    client.connect_peer(b.peer_id(), &[]);
    client.connect_peer(b.peer_id(), &[dead]);
    b.client().connect_peer(a.peer_id(), &[]);
}

#[test]
fn an_address_may_carry_the_peer_it_belongs_to() {
    let (a, b) = (node(), node());
    let with_peer = b.addrs()[0]
        .clone()
        .with_p2p(b.peer_id())
        .expect("no peer yet");
    a.client().connect_peer(b.peer_id(), &[with_peer]);
    assert_eq!(a.client().list_peers(), [(b.peer_id(), b.addrs().to_vec())]);
}

#[test]
fn failures_are_worded_as_in_go() {
    let (a, b) = (node(), node());
    let mut client = a.client();
    let stranger = PeerId::random();
    let id = stranger.to_base58();

    let to_self = "failed to dial: dial to self attempted";
    let own = a.addrs()[0].to_string();
    assert_eq!(refused(&mut client, a.peer_id(), &[]), to_self);
    assert_eq!(refused(&mut client, a.peer_id(), &[&own]), to_self);

    let no_addresses = format!("failed to dial: failed to dial {id}: no addresses");
    assert_eq!(refused(&mut client, stranger, &[]), no_addresses);
    let foreign = format!("{}/p2p/{}", b.addrs()[0], b.peer_id());
    assert_eq!(refused(&mut client, stranger, &[&foreign]), no_addresses);

    let all_failed = format!("failed to dial: failed to dial {id}: all dials failed");
    let port = closed_port();
    let closed = format!("/ip4/127.0.0.1/tcp/{port}");
    assert_eq!(
        refused(&mut client, stranger, &[&closed]),
        format!(
            "{all_failed}\n  * [{closed}] dial tcp4 127.0.0.1:{port}: connect: connection refused"
        )
    );

    // Each address that was tried before is tried with the new ones, in a line of its own.
    let other = PeerId::random();
    let text = refused(&mut client, other, &["/ip4/127.0.0.1/udp/0"]);
    assert_eq!(
        text,
        format!(
            "failed to dial: failed to dial {other}: all dials failed\n  \
             * [/ip4/127.0.0.1/udp/0] no transport for protocol"
        )
    );

    let other = PeerId::random();
    let listening = b.addrs()[0].to_string();
    assert_eq!(
        refused(&mut client, other, &[&listening]),
        format!(
            "failed to dial: failed to dial {other}: all dials failed\n  \
             * [{listening}] failed to negotiate security protocol: peer id mismatch: \
             expected {other}, but remote key matches {}",
            b.peer_id()
        )
    );
    assert_open(&mut client);
}

#[test]
fn at_most_sixteen_failures_are_listed() {
    let daemon = node();
    let mut client = daemon.client();
    let stranger = PeerId::random();
    let port = closed_port();
    let addrs: Vec<String> = (1..=20)
        .map(|host| format!("/ip4/127.0.0.{host}/tcp/{port}"))
        .collect();
    let addrs: Vec<&str> = addrs.iter().map(String::as_str).collect();
    let text = refused(&mut client, stranger, &addrs);
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("  * ["))
            .count(),
        16
    );
    assert_eq!(text.lines().last(), Some("    ... skipping 4 errors ..."));
}

#[test]
fn a_wrong_peer_behind_one_address_does_not_spoil_the_others() {
    let (a, b, c) = (node(), node(), node());
    // The wrong peer's address first, so that it answers first.
    let addrs = [c.addrs()[0].clone(), b.addrs()[0].clone()];
    for _ in 0..10 {
        a.client().connect_peer(b.peer_id(), &addrs);
        assert_eq!(a.client().list_peers(), [(b.peer_id(), b.addrs().to_vec())]);
        a.client().disconnect(b.peer_id());
    }
    assert_eq!(c.client().list_peers(), []);
}

#[test]
fn a_failure_does_not_delay_the_next_attempt() {
    let (a, b) = (node(), node());
    let port = closed_port();
    let addr = format!("/ip4/127.0.0.1/tcp/{port}");
    let text = refused(&mut a.client(), b.peer_id(), &[&addr]);
    assert!(text.contains("connection refused"), "{text}");

    // Now somebody forwards that port to the peer.
    let to = port_of(&b.addrs()[0]);
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    std::thread::spawn(move || forward(&listener, to));
    let started = Instant::now();
    a.client()
        .connect_peer(b.peer_id(), &[addr.parse().expect("addr")]);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

/// Carries one connection to `port`; ends with it.
fn forward(listener: &TcpListener, port: u16) {
    let (near, _) = listener.accept().expect("a connection");
    let far = TcpStream::connect(("127.0.0.1", port)).expect("the peer");
    std::thread::scope(|scope| {
        for (mut from, mut to) in [(&near, &far), (&far, &near)] {
            scope.spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.flush();
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
}

pub(super) fn port_of(addr: &Multiaddr) -> u16 {
    addr.iter()
        .find_map(|part| match part {
            libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
            _ => None,
        })
        .expect("a tcp port")
}

#[test]
fn the_clients_time_limit_is_kept() {
    let daemon = node();
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = format!(
        "/ip4/{}/tcp/{}",
        "127.0.0.1",
        silent.local_addr().expect("addr").port()
    );
    let mut client = daemon.client();
    let started = Instant::now();
    let request = connect(&PeerId::random().to_bytes(), &[&maddr(&addr)], Some(1));
    let text = refusal(&mut client, &request);
    assert_eq!(text, "failed to dial: context deadline exceeded");
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(5),
        "{took:?}"
    );
    silent.set_nonblocking(true).expect("nonblocking");
    assert!(silent.accept().is_ok(), "nobody has dialed");
}

#[test]
fn odd_time_limits_mean_the_default_or_the_longest() {
    let (a, b) = (node(), node());
    let addr = b.addrs()[0].to_vec();
    let mut client = a.client();
    for seconds in [0, -1, i64::MIN, i64::MAX, 9_223_372_037] {
        let request = connect(&b.peer_id().to_bytes(), &[&addr], Some(seconds));
        assert_eq!(
            ask(&mut client, &request),
            Response::default(),
            "{seconds} s"
        );
        client.disconnect(b.peer_id());
    }
}

#[test]
fn a_slow_dial_delays_only_its_own_connection() {
    let daemon = node();
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = format!(
        "/ip4/127.0.0.1/tcp/{}",
        silent.local_addr().expect("addr").port()
    );
    let mut slow = daemon.client();
    let request = connect(&PeerId::random().to_bytes(), &[&maddr(&addr)], Some(2));
    // The IDENTIFY that follows on the same connection waits for its turn.
    slow.send_raw(&[raw::frame(&request), vec![2, 8, 0]].concat())
        .expect("send");
    let started = Instant::now();
    for _ in 0..100 {
        assert_open(&mut daemon.client());
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    let first: Response = slow.receive().expect("CONNECT's answer");
    assert_eq!(
        error_text(&first),
        "failed to dial: context deadline exceeded"
    );
    let second: Response = slow.receive().expect("IDENTIFY's answer");
    assert!(second.identify.is_some());
}

#[test]
fn many_clients_connect_to_the_same_peer_at_once() {
    let (a, b) = (node(), node());
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| a.connect_to(&b));
        }
    });
    assert_eq!(a.client().list_peers(), [(b.peer_id(), b.addrs().to_vec())]);
    assert_eq!(b.client().list_peers().len(), 1);
}

#[test]
fn another_peer_at_the_old_address_is_named() {
    let a = node();
    let port = closed_port();
    let flag = format!("-hostAddrs=/ip4/127.0.0.1/tcp/{port}");
    let mut before = Daemon::spawn(&[&flag]);
    a.connect_to(&before);
    let old = before.peer_id();
    before.terminate(PATIENCE);
    let after = Daemon::spawn(&[&flag]);
    assert_ne!(old, after.peer_id(), "a fresh key at each start");
    // By the address it is still known at, and by the same address given again.
    for addrs in [&[][..], &[format!("/ip4/127.0.0.1/tcp/{port}")]] {
        let addrs: Vec<&str> = addrs.iter().map(String::as_str).collect();
        let text = refused(&mut a.client(), old, &addrs);
        let mismatch = format!(
            "peer id mismatch: expected {old}, but remote key matches {}",
            after.peer_id()
        );
        assert!(text.contains(&mismatch), "{text}");
    }
    a.connect_to(&after);
}

/// Listeners that take connections and say nothing, and their addresses.
pub(super) fn silent(count: usize) -> (Vec<TcpListener>, Vec<Multiaddr>) {
    (0..count)
        .map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let port = listener.local_addr().expect("addr").port();
            let addr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("addr");
            (listener, addr)
        })
        .unzip()
}

pub(super) fn was_dialed(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("nonblocking");
    listener.accept().is_ok()
}

#[test]
fn the_last_of_many_addresses_is_reached_soon() {
    let (a, b) = (node(), node());
    let (listeners, mut addrs) = silent(60);
    addrs.push(b.addrs()[0].clone());
    let started = Instant::now();
    a.client().connect_peer(b.peer_id(), &addrs);
    let took = started.elapsed();
    println!("{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let dialed = listeners.iter().filter(|one| was_dialed(one)).count();
    assert!(dialed > 0, "no silent address was dialed");
}

/// More than are dialed at once.
#[test]
fn the_last_of_two_hundred_addresses_is_reached() {
    let (a, b) = (node(), node());
    let port = closed_port();
    let mut addrs: Vec<Multiaddr> = (1..=200)
        .map(|host| format!("/ip4/127.0.1.{host}/tcp/{port}"))
        .map(|text| text.parse().expect("addr"))
        .collect();
    addrs.push(b.addrs()[0].clone());
    a.client().connect_peer(b.peer_id(), &addrs);
    // Without it, each is named in its turn.
    let text = a.client().connect_to(PeerId::random(), &addrs[..200]);
    let text = text.expect_err("nobody");
    assert!(text.ends_with("... skipping 184 errors ..."), "{text}");
}

#[test]
fn a_later_address_joins_the_dial_under_way() {
    let (a, b) = (node(), node());
    let (listeners, addrs) = silent(1);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let started = Instant::now();
            let connected = a.client().connect_to(b.peer_id(), &addrs);
            (connected, started.elapsed())
        });
        // What is accepted stays open: an end would be the end of the first caller's dial.
        let held = listeners[0].accept().expect("the silent address is dialed");
        let started = Instant::now();
        a.client().connect_peer(b.peer_id(), b.addrs());
        let took = started.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        let (connected, waited) = first.join().expect("the first caller");
        assert_eq!(connected, Ok(()));
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        drop(held);
    });
}

#[test]
fn a_dial_that_nobody_waits_for_ends() {
    let daemon = node();
    let (listeners, addrs) = silent(1);
    let request = connect(&PeerId::random().to_bytes(), &[&addrs[0].to_vec()], Some(1));
    let text = refusal(&mut daemon.client(), &request);
    assert_eq!(text, "failed to dial: context deadline exceeded");
    let (mut dialed, _) = listeners[0].accept().expect("the address was dialed");
    let limit = Duration::from_secs(5);
    dialed.set_read_timeout(Some(limit)).expect("timeout");
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut dialed, &mut rest).expect("the dial ends with its caller");
}
