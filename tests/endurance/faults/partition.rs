//! A network in two parts that heals, and peers that come back as others or elsewhere.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use super::{exchange, length, serve_echo, shell};
use crate::support::{Daemon, Launch, PATIENCE, eventually};

/// A silent connection is closed within 40 s, here with some room for a busy machine.
const NOTICED: Duration = Duration::from_secs(50);

/// Dials of a node that is alone are a minute apart at the most.
const HEALED: Duration = Duration::from_secs(90);

/// Peers that come back as others.
const ROUNDS: usize = 10;

fn is_listed(daemon: &Daemon, peer: PeerId) -> bool {
    let listed = daemon.client().list_peers();
    listed.iter().any(|(other, _)| *other == peer)
}

/// A port of the second address that is free now.
fn free_port() -> u16 {
    let free = TcpListener::bind("10.9.0.2:0").expect("a port");
    free.local_addr().expect("an address").port()
}

pub fn heals() {
    let time = length().expect("a length").max(NOTICED);
    let far = Launch::new()
        .args(["-dhtServer", "-hostAddrs=/ip4/10.9.0.2/tcp/0"])
        .spawn();
    serve_echo(&far);
    let bootstrap = format!("{}/p2p/{}", far.addrs()[0], far.peer_id());
    let near = Launch::new()
        .args(["-dhtServer", "-hostAddrs=/ip4/10.9.0.1/tcp/0", "-b"])
        .args([format!("-bootstrapPeers={bootstrap}")])
        .spawn();
    exchange(&near, &far, 0).expect("an exchange");
    let begun = Instant::now();
    shell(
        "nft add table inet faults\n\
         nft add chain inet faults input '{ type filter hook input priority 0; }'\n\
         nft add rule inet faults input meta l4proto '{ tcp, udp }' counter drop",
    );
    let gone = eventually(NOTICED, || {
        !is_listed(&near, far.peer_id()) && !is_listed(&far, near.peer_id())
    });
    println!("partition: noticed after {:.1?}", begun.elapsed());
    assert!(gone, "a silent peer is still listed");
    assert!(exchange(&near, &far, 1).is_err(), "no partition");
    // It lasts as long as it was asked for.
    std::thread::sleep(time.saturating_sub(begun.elapsed()));
    let dropped = shell("nft list table inet faults");
    assert!(!dropped.contains("packets 0 "), "{dropped}");
    shell("nft delete table inet faults");
    let healed = Instant::now();
    let back = eventually(HEALED, || is_listed(&near, far.peer_id()));
    println!(
        "partition of {time:.0?}: back {:.1?} after its end",
        healed.elapsed()
    );
    assert!(back, "not back");
    exchange(&near, &far, 2).expect("an exchange");
}

/// KwaaiNet's bug: an address that leads to another peer was dialed for ever.
pub fn wrong_addresses_are_dropped() {
    let start = |key: &Keypair, port: u16| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("identity");
        let bytes = key.to_protobuf_encoding().expect("a key");
        std::fs::write(&path, bytes).expect("write the key");
        let id = format!("-id={}", path.display());
        let listen = format!("-hostAddrs=/ip4/10.9.0.2/tcp/{port}");
        Launch::new().args(["-dhtServer", &id, &listen]).spawn()
    };
    let flags = ["-dhtServer", "-hostAddrs=/ip4/10.9.0.1/tcp/0"];
    let (near, hub) = (Daemon::spawn(&flags), Daemon::spawn(&flags));
    near.connect_to(&hub);
    for round in 0..ROUNDS {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let old = key.public().to_peer_id();
        let port = free_port();
        let address: Multiaddr = format!("/ip4/10.9.0.2/tcp/{port}")
            .parse()
            .expect("an address");
        let mut first = start(&key, port);
        near.connect_to(&first);
        first.terminate(PATIENCE);
        let gone = eventually(PATIENCE, || !is_listed(&near, old));
        assert!(gone, "still listed");
        // Another has the address now.
        let mut second = start(&other, port);
        let refused = near
            .client()
            .connect_to(old, std::slice::from_ref(&address));
        let refused = refused.expect_err("another peer");
        let mismatch = format!(
            "expected {old}, but remote key matches {}",
            second.peer_id()
        );
        assert!(refused.contains(&mismatch), "{refused}");
        // What leads to another is not dialed again.
        let refused = near.client().connect_to(old, &[]).expect_err("nowhere");
        assert!(
            !refused.contains(&address.to_string()),
            "dialed again: {refused}"
        );
        second.terminate(PATIENCE);
        // The old one is elsewhere, and found.
        let moved = start(&key, free_port());
        moved.connect_to(&hub);
        near.client().connect_peer(old, &[]);
        println!("round {round}: {old} found again");
    }
}
