//! Clients killed in the middle of a call: nothing hangs, nothing of them stays.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use libp2p::PeerId;

use super::*;
use crate::support::Control;

/// A client in a process of its own, so that it can be killed: a handler that never
/// answers, or a caller that waits for ever.
fn process(daemon: &Daemon, peer: Option<PeerId>) -> Child {
    let Control::Unix(path) = daemon.control() else {
        panic!("a unix socket");
    };
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "faults::hold_a_call", "--ignored"])
        .env("RP2PD_TEST_HOLD", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(peer) = peer {
        command.env("RP2PD_TEST_HOLD_PEER", peer.to_base58());
    }
    command.spawn().expect("start the client")
}

/// Not a test of its own: the body of [`process`].
#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn hold_a_call() {
    let Some(path) = std::env::var_os("RP2PD_TEST_HOLD") else {
        return;
    };
    let mut client = Persistent::connect(&Control::Unix(path.into())).expect("connect");
    match std::env::var("RP2PD_TEST_HOLD_PEER") {
        Ok(peer) => {
            let peer = peer.parse().expect("a peer id");
            client.begin(peer, "held", b"held");
        }
        Err(_) => client.add("held", true).expect("add"),
    }
    // Until the parent ends its side, which it never does.
    let _ = std::io::stdin().read(&mut [0]);
}

fn kill(mut child: Child) {
    child.kill().expect("kill the client");
    child.wait().expect("the client's end");
}

/// Both daemons are as before, or nearly so.
fn assert_as_before(daemons: [&Daemon; 2], before: [(usize, u64); 2]) {
    for (daemon, (fds, kib)) in daemons.into_iter().zip(before) {
        let back = eventually(Duration::from_secs(15), || daemon.fds() <= fds);
        assert!(back, "{} descriptors, {fds} before", daemon.fds());
        let grown = daemon.rss_kib().saturating_sub(kib);
        println!("RSS grew by {grown} KiB");
        assert!(grown < 8 << 10, "RSS grew by {grown} KiB");
    }
}

fn now(daemons: [&Daemon; 2]) -> [(usize, u64); 2] {
    daemons.map(|daemon| (daemon.fds(), daemon.rss_kib()))
}

fn kills() -> usize {
    count("RP2PD_TEST_CALL_KILLS", 20)
}

#[test]
fn a_handler_killed_in_mid_call_fails_it_and_leaves_nothing() {
    let (a, b) = pair();
    let _keeps_it_alive = b.persistent();
    let mut caller = a.persistent();
    let refused = "failed to negotiate protocol: protocols not supported: [held]";
    let mut before = None;
    for round in 0..kills() {
        let child = process(&b, None);
        let mut id = None;
        // The process takes a while to add its handler.
        let held = eventually(PATIENCE, || {
            let call = caller.begin(b.peer_id(), "held", b"x");
            if caller.is_silent_for(Duration::from_millis(50)) {
                id = Some(call);
                return true;
            }
            assert_eq!(caller.outcome(&call).failure(), refused);
            false
        });
        assert!(held, "round {round}: no handler");
        kill(child);
        let killed = Instant::now();
        let outcome = caller.outcome(&id.expect("a call"));
        assert_eq!(outcome.failure(), "EOF", "round {round}");
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(1), "round {round}: {took:?}");
        before.get_or_insert_with(|| now([&a, &b]));
    }
    assert_as_before([&a, &b], before.expect("a round"));
}

#[test]
fn a_caller_killed_in_mid_call_cancels_it_and_leaves_nothing() {
    let (a, b) = pair();
    let _keeps_it_alive = a.persistent();
    let mut handler = handler(&b, "held");
    let mut before = None;
    for round in 0..kills() {
        let child = process(&a, Some(b.peer_id()));
        let call = handler.incoming().expect("the call");
        kill(child);
        let killed = Instant::now();
        handler.await_cancel(&call.id).expect("told");
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(1), "round {round}: {took:?}");
        before.get_or_insert_with(|| now([&a, &b]));
    }
    assert_as_before([&a, &b], before.expect("a round"));
}

#[test]
fn a_daemon_is_gone_when_its_only_client_is_killed() {
    let (a, b) = pair();
    let mut a = a;
    let mut handler = handler(&b, "held");
    let child = process(&a, Some(b.peer_id()));
    let call = handler.incoming().expect("the call");
    kill(child);
    let killed = Instant::now();
    let status = a.wait(PATIENCE).expect("the end");
    assert_eq!(status.code(), Some(0));
    assert!(
        killed.elapsed() < Duration::from_secs(2),
        "{:?}",
        killed.elapsed()
    );
    handler.await_cancel(&call.id).expect("told");
}
