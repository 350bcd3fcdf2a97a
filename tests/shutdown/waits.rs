//! Whatever a task waits for when the daemon is to stop, it waits no longer.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::support::by_hand::{ByHand, MULTISTREAM, messages};
use crate::support::handler::never_accepts;
use crate::support::{Control, Daemon, Handler, Launch, PATIENCE, control, eventually, rpc};

/// So long that a test that takes it has failed.
const GRACE: &str = "-shutdownGrace=25s";
const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// Connections are closed in order, which takes two seconds at most.
const PROMPT: Duration = Duration::from_secs(4);

/// Stops `daemon`, which must not wait for what it was waiting for.
fn assert_prompt(daemon: &mut Daemon, waits_for: &str) {
    let started = Instant::now();
    let status = daemon.terminate(PATIENCE);
    let took = started.elapsed();
    println!("{waits_for}: the end took {took:?}");
    assert_eq!(status.code(), Some(0), "{waits_for}");
    assert!(took < PROMPT, "{waits_for}: {took:?}");
}

#[test]
fn the_pause_before_a_pubsub_stream_is_opened_again() {
    // 100 ms after the first attempt, twice as long after each further one.
    const ATTEMPTS: usize = 8;
    let mut daemon = Launch::new()
        .args([LISTEN, "-pubsub", GRACE])
        .env("RUST_LOG", "rp2pd::pubsub=debug")
        .spawn();
    let peer = Daemon::spawn(&[LISTEN]);
    let handler = Handler::unix();
    handler
        .register(&mut peer.client(), &[rpc::PROTOCOL], None)
        .expect("register");
    peer.connect_to(&daemon);
    for _ in 0..ATTEMPTS {
        // Accepted and dropped: the stream is refused.
        let _ = handler.accept(PATIENCE).expect("an attempt");
    }
    let failed = || daemon.stderr().matches("pubsub stream failed").count() == ATTEMPTS;
    assert!(eventually(PATIENCE, failed), "{}", daemon.stderr());
    assert_prompt(&mut daemon, "a back-off of 12.8 s");
}

#[test]
fn a_stream_that_proposes_no_protocol() {
    let mut daemon = Daemon::spawn(&[LISTEN, "-plaintext=true", GRACE]);
    let mut peer = ByHand::connect(&daemon);
    let _read = peer.discard();
    peer.open(&[]).expect("open");
    let waits = || daemon.report().contains("inbound streams (1)");
    assert!(eventually(PATIENCE, waits), "the stream has not arrived");
    assert_prompt(&mut daemon, "a negotiation of 10 s");
}

#[test]
fn a_handler_that_does_not_accept() {
    let mut daemon = Daemon::spawn(&[LISTEN, "-plaintext=true", GRACE]);
    let path = daemon.dir().join("stuck.sock");
    let _stuck = never_accepts(&path);
    let mut request = Handler::unix().request(&["/stuck"], None);
    let addr = Control::Unix(path).to_bytes();
    request.stream_handler.as_mut().expect("a handler").addr = Some(addr.into());
    daemon.client().ask(&request).expect("register");
    let mut peer = ByHand::connect(&daemon);
    let proposal = messages(&[MULTISTREAM, "/stuck"]);
    let stream = peer.open(&proposal).expect("open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"/stuck\n") {
        let frame = peer.receive().expect("a frame");
        if frame.stream == stream {
            answer.extend(frame.body);
        }
    }
    assert_prompt(&mut daemon, "a handler dial of 10 s");
}

#[test]
fn a_dial_that_nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("an address").port();
    let mut daemon = Daemon::spawn(&[LISTEN, GRACE]);
    let mut client = daemon.client();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");
    let request = control::connect(PeerId::random(), &[address]);
    client.send(&request).expect("send");
    let (_dial, _) = silent.accept().expect("the dial");
    assert_prompt(&mut daemon, "a dial of 15 s");
    // Some clients take any answer for a success.
    assert!(client.pipe.read_frame().is_err(), "an answer");
}

#[test]
fn a_client_that_does_not_read_its_answers() {
    let mut daemon = Daemon::spawn(&[LISTEN, GRACE]);
    let mut client = daemon.client();
    let socket = &client.pipe.socket;
    socket.set_timeout(PATIENCE / 100).expect("set a timeout");
    let requests = [2, 8, 0].repeat(10_000);
    // The answers alone fill every buffer long before.
    let stuck = (0..200).any(|_| client.pipe.write_all(&requests).is_err());
    assert!(stuck, "the daemon takes requests without end");
    assert_prompt(&mut daemon, "a client that reads nothing");
}
