//! Pubsub through the control socket: what clients of one daemon and of several see
//! (COMPATIBILITY.md 4.24 to 4.26), what slow and hostile ones cost (SECURITY.md 2, 3).

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod basics;
mod hostile;
mod signing;
mod slow;
mod spread;

use support::{Daemon, PATIENCE, eventually};

/// A daemon with pubsub and these flags.
fn node(flags: &[&str]) -> Daemon {
    let mut args = vec!["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-pubsub"];
    args.extend(flags);
    Daemon::spawn(&args)
}

/// Waits until `daemon` knows that `peer` is subscribed to `topic`.
fn await_peer(daemon: &Daemon, peer: &Daemon, topic: &str) {
    let known = || {
        let peers = daemon.client().topic_peers(topic).expect("LIST_PEERS");
        peers.contains(&peer.peer_id())
    };
    assert!(eventually(PATIENCE, known), "no word of the subscription");
}
