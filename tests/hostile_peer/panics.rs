//! Panics in the daemon's own tasks, which a debug build has where a test wants them.

use std::io::{Read, Write};

use tempfile::TempDir;

use super::*;
use crate::support::by_hand::{ByHand, MULTISTREAM, messages};
use crate::support::{ControlClient, Launch, PATIENCE};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A daemon whose places panic when the directory names them.
fn fragile() -> (Daemon, TempDir) {
    let wanted = tempfile::tempdir().expect("a directory");
    let directory = wanted.path().to_str().expect("text").to_owned();
    let daemon = Launch::new()
        .args([LISTEN, "-plaintext=true"])
        .env("RP2PD_TEST_PANICS", &directory)
        // The names that a trace needs stay in memory.
        .env("RUST_BACKTRACE", "0")
        .spawn();
    (daemon, wanted)
}

fn want(wanted: &TempDir, place: &str) {
    std::fs::write(wanted.path().join(place), "").expect("write");
}

/// How many panics the daemon has told of.
fn panics(daemon: &Daemon, place: &str) -> usize {
    daemon
        .stderr()
        .matches(&format!("a test wants this: {place}\n"))
        .count()
}

/// The panic was there.
fn assert_panicked(daemon: &Daemon, place: &str, times: usize) {
    let told = || panics(daemon, place) == times;
    assert!(eventually(PATIENCE, told), "{place}: {}", daemon.stderr());
}

pub fn a_session_dies_alone() {
    let (daemon, wanted) = fragile();
    let mut before = daemon.client();
    let _ = before.identify();
    let quiet = Quiet::of(&daemon);
    for round in 1..=20 {
        want(&wanted, "session");
        let mut client = daemon.client();
        client.send_raw(&[2, 8, 0]).expect("send");
        let ended = client.pipe.read_frame();
        assert!(ended.is_err(), "an answer in spite of the panic");
        assert_panicked(&daemon, "session", round);
        let _ = before.identify();
    }
    quiet.assert_again(&daemon, "sessions that panicked");
}

pub fn a_stream_dies_alone() {
    let (daemon, wanted) = fragile();
    let mut peer = ByHand::connect(&daemon);
    let told = peer.discard();
    let echo = messages(&[MULTISTREAM, "/echo/1.0.0"]);
    // identify and ping have come by then.
    assert!(eventually(PATIENCE, || told.bytes() > 0));
    let quiet = Quiet::of(&daemon);
    for round in 1..=20 {
        want(&wanted, "stream");
        peer.open(&echo).expect("open");
        assert_panicked(&daemon, "stream", round);
    }
    let before = told.bytes();
    peer.open(&echo).expect("open");
    assert!(eventually(PATIENCE, || told.bytes() > before + 30));
    assert!(!told.is_ended(), "the connection ended");
    quiet.assert_again(&daemon, "streams that panicked");
}

/// Whether a stream of this client's daemon to `to` works.
fn echoes(client: ControlClient, to: &Daemon) -> bool {
    let opened = client.open_stream(to.peer_id(), &["/echo/1.0.0"]);
    opened.is_ok_and(|(_, pipe)| pipe.exchange(b"?") == b"?")
}

pub fn a_connection_dies_alone() {
    dies_alone("connection");
}

pub fn protocols_of_the_library_die_with_their_connection() {
    dies_alone("protocol");
}

fn dies_alone(what: &str) {
    let (daemon, wanted) = fragile();
    let (honest, other) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    honest.connect_to(&daemon);
    let opened = honest
        .client()
        .open_stream(daemon.peer_id(), &["/echo/1.0.0"]);
    let (_, mut stream) = opened.expect("open");
    let listed =
        |count: usize| eventually(PATIENCE, || daemon.client().list_peers().len() == count);
    assert!(listed(1));
    let quiet = Quiet::of(&daemon);
    // More often than one peer may have connections: none of them is counted any longer.
    let place = format!("{what}-{}", other.peer_id());
    for round in 1..=20 {
        want(&wanted, &place);
        let refused = other.client().connect_to(daemon.peer_id(), daemon.addrs());
        assert_panicked(&daemon, &place, round);
        drop(refused);
        // The other side sees the end; a dial that was cut in mid-upgrade it has tried again.
        let over = eventually(PATIENCE, || {
            let mut client = other.client();
            client.list_peers().is_empty() || echoes(client, &daemon)
        });
        assert!(over, "the other side does not see the end");
        other.client().disconnect(daemon.peer_id());
        assert!(listed(1), "a connection that is gone is listed");
        stream.write_all(b"still").expect("write");
        stream
            .read_exact(&mut [0; 5])
            .expect("the other connection lives");
    }
    // Whoever was cut off comes back.
    assert!(eventually(PATIENCE, || {
        let again = other.client().connect_to(daemon.peer_id(), daemon.addrs());
        again.is_ok() && listed(2)
    }));
    assert!(echoes(other.client(), &daemon));
    other.client().disconnect(daemon.peer_id());
    assert!(listed(1));
    quiet.assert_again(&daemon, "connections that panicked");
}

pub fn without_its_swarm_the_daemon_ends() {
    for _ in 0..3 {
        let (mut daemon, wanted) = fragile();
        let mut client = daemon.client();
        let _ = client.identify();
        want(&wanted, "swarm");
        let other = Daemon::spawn(&[LISTEN]);
        let started = std::time::Instant::now();
        let mut asked = support::control::typed(rp2pd::wire::pb::request::Type::Connect);
        asked.connect = Some(rp2pd::wire::pb::ConnectRequest {
            peer: Some(other.peer_id().to_bytes().into()),
            addrs: other
                .addrs()
                .iter()
                .map(|addr| addr.to_vec().into())
                .collect(),
            timeout: None,
        });
        let _ = client.request(&asked);
        let status = daemon
            .wait(PATIENCE)
            .expect("it lives on without a network");
        let took = started.elapsed();
        assert_eq!(status.code(), Some(70), "{}", daemon.stderr());
        assert_panicked(&daemon, "swarm", 1);
        assert!(took < std::time::Duration::from_secs(8), "{took:?}");
        println!("exit 70 after {took:?}");
    }
}
