//! Rendezvous points, and peers that meet there (COMPATIBILITY.md 4.33). What py-libp2p does there is
//! in `interop`.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod rust_libp2p;

use std::time::Duration;

use libp2p::{
    Multiaddr, PeerId,
    core::{PeerRecord, SignedEnvelope},
    identity::Keypair,
    multiaddr::Protocol,
};

use support::{Daemon, Launch, PATIENCE, Pipe, eventually, raw};

const PROTOCOL: &str = "/rendezvous/1.0.0";
const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

fn point() -> Daemon {
    Daemon::spawn(&[LISTEN, "-rendezvousServer"])
}

/// Where `daemon` is, as `-rendezvous` takes it.
fn at(daemon: &Daemon) -> String {
    let address = daemon.addrs()[0].clone();
    format!(
        "-rendezvous={}",
        address.with(Protocol::P2p(daemon.peer_id()))
    )
}

fn meets(point: &Daemon, more: &[&str]) -> Daemon {
    let point = at(point);
    Daemon::spawn(&[&[LISTEN, &point], more].concat())
}

fn knows(daemon: &Daemon, peer: PeerId) -> bool {
    let peers = daemon.client().list_peers();
    peers.iter().any(|(id, _)| *id == peer)
}

/// A stream on which requests are sent as they are.
fn stream(from: &Daemon, point: &Daemon) -> Pipe {
    let opened = from.client().open_stream(point.peer_id(), &[PROTOCOL]);
    opened.expect("a stream").1
}

fn register(ns: &[u8], peer: &[u8], ttl: u64) -> Vec<u8> {
    let fields = [
        raw::bytes(1, ns),
        raw::bytes(2, peer),
        raw::int(3, ttl as i64),
    ];
    [raw::int(1, 0), raw::bytes(2, &fields.concat())].concat()
}

fn discover(ns: &[u8], cookie: &[u8]) -> Vec<u8> {
    let fields = [raw::bytes(1, ns), raw::bytes(3, cookie)];
    [raw::int(1, 3), raw::bytes(5, &fields.concat())].concat()
}

/// A record without a signature.
fn plain(peer: PeerId, addresses: &[&str]) -> Vec<u8> {
    let addresses = addresses.iter().map(|address| {
        let address: Multiaddr = address.parse().expect("an address");
        raw::bytes(2, &address.to_vec())
    });
    let addresses: Vec<_> = addresses.collect();
    [raw::bytes(1, &peer.to_bytes()), addresses.concat()].concat()
}

#[test]
fn those_that_register_find_each_other() {
    let point = point();
    let one = meets(&point, &[]);
    let other = meets(&point, &["-rendezvousNamespace=a,rendezvous"]);
    let elsewhere = meets(&point, &["-rendezvousNamespace=b"]);
    let met = || knows(&one, other.peer_id()) && knows(&other, one.peer_id());
    // The first one has asked before the second has come.
    assert!(
        eventually(PATIENCE, met),
        "{} {}",
        one.stderr(),
        other.stderr()
    );
    assert!(eventually(PATIENCE, || knows(&elsewhere, point.peer_id())));
    assert!(!knows(&elsewhere, one.peer_id()) && !knows(&elsewhere, other.peer_id()));
    assert_eq!(point.client().list_peers().len(), 3);
}

#[test]
fn whoever_ends_takes_its_registrations_back() {
    let point = point();
    let mut leaver = meets(&point, &["-rendezvousNamespace=a,b"]);
    let asker = Daemon::spawn(&[LISTEN]);
    asker.connect_to(&point);
    let registered = |namespace: &[u8]| {
        let mut pipe = stream(&asker, &point);
        bad_input::found(&mut pipe, &discover(namespace, b""))
            .0
            .len()
    };
    let both = || registered(b"a") == 1 && registered(b"b") == 1;
    assert!(eventually(PATIENCE, both), "{}", leaver.stderr());
    leaver.terminate(PATIENCE);
    // The point has read it before the connection was closed.
    assert_eq!((registered(b"a"), registered(b"b")), (0, 0));
}

#[test]
fn nobody_serves_unasked() {
    let plain = Daemon::spawn(&[LISTEN]);
    let asker = Daemon::spawn(&[LISTEN]);
    asker.connect_to(&plain);
    let refused = asker.client().open_stream(plain.peer_id(), &[PROTOCOL]);
    let refused = refused.map(drop).expect_err("no such protocol");
    assert!(refused.contains("protocols not supported"), "{refused}");
}

#[test]
fn a_point_that_is_late_or_restarts_is_found_again() {
    let keys = tempfile::tempdir().expect("a directory");
    let key = keys.path().join("key");
    let made = std::process::Command::new(support::daemon::binary_under_test())
        .args(["keygen", "-f"])
        .arg(&key)
        .status();
    assert!(made.expect("keygen").success());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let start = || {
        let listen = format!("-hostAddrs=/ip4/127.0.0.1/tcp/{port}");
        let id = format!("-id={}", key.display());
        Launch::new()
            .args([&listen, &id, "-rendezvousServer"])
            .spawn()
    };
    let mut point = start();
    let arg = at(&point);
    point.terminate(PATIENCE);
    drop(point);
    let launch = || Daemon::spawn(&[LISTEN, &arg]);
    let (one, other) = (launch(), launch());
    let mut point = start();
    let met = || knows(&one, other.peer_id());
    assert!(
        eventually(Duration::from_secs(60), met),
        "the point came late"
    );
    point.terminate(PATIENCE);
    drop(point);
    let point = start();
    // It has forgotten them, and they come again.
    let third = launch();
    let met = || knows(&third, one.peer_id()) && knows(&third, other.peer_id());
    assert!(
        eventually(Duration::from_secs(60), met),
        "the point has restarted"
    );
    drop(point);
}

#[test]
fn signed_and_plain_registrations_are_taken() {
    let point = point();
    let peer = Daemon::spawn(&[LISTEN]);
    peer.connect_to(&point);
    let mut pipe = stream(&peer, &point);
    let own = plain(peer.peer_id(), &["/ip4/127.0.0.1/tcp/1"]);
    assert_eq!(
        bad_input::status(&mut pipe, &register(b"n", &own, 120)),
        Some(0)
    );
    let (found, cookie) = bad_input::found(&mut pipe, &discover(b"n", b""));
    assert_eq!(found, [own]);
    assert_eq!(
        bad_input::found(&mut pipe, &discover(b"n", &cookie)).0,
        Vec::<Vec<u8>>::new()
    );
    // UNREGISTER has no answer: the next one is that of the next request.
    let unregister = [raw::int(1, 2), raw::bytes(4, &raw::bytes(1, b"n"))].concat();
    use std::io::Write as _;
    pipe.write_all(&raw::frame(&unregister)).expect("write");
    assert_eq!(
        bad_input::found(&mut pipe, &discover(b"n", b"")).0,
        Vec::<Vec<u8>>::new()
    );
}

/// A daemon with a key that the test has, so that it can sign for it.
fn with_key() -> (Daemon, Keypair, tempfile::TempDir) {
    let keys = tempfile::tempdir().expect("a directory");
    let key = Keypair::generate_ed25519();
    let path = keys.path().join("key");
    std::fs::write(&path, key.to_protobuf_encoding().expect("a key")).expect("write");
    let daemon = Launch::new()
        .args([LISTEN, &format!("-id={}", path.display())])
        .spawn();
    (daemon, key, keys)
}

#[test]
fn both_kinds_of_signed_records_are_taken_and_told() {
    let point = point();
    let (peer, key, _keys) = with_key();
    assert_eq!(peer.peer_id(), key.public().to_peer_id());
    peer.connect_to(&point);
    let addresses = vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")];
    let record = PeerRecord::new_interop(&key, addresses.clone()).expect("signed");
    let legacy = PeerRecord::new(&key, addresses).expect("signed");
    for record in [record, legacy] {
        let envelope = record.into_signed_envelope().into_protobuf_encoding();
        let mut pipe = stream(&peer, &point);
        assert_eq!(
            bad_input::status(&mut pipe, &register(b"n", &envelope, 0)),
            Some(0)
        );
        let (found, _) = bad_input::found(&mut pipe, &discover(b"n", b""));
        assert_eq!(found, std::slice::from_ref(&envelope));
        assert!(SignedEnvelope::from_protobuf_encoding(&envelope).is_ok());
    }
}
