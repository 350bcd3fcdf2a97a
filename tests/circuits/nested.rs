//! Circuits that lead nowhere: through another circuit, through the daemon itself, or to itself.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::{ByHand, LISTEN};
use crate::support::quiet::{Quiet, assert_quick};
use crate::support::relay::{HOP, Hop, Limit, PERMISSION_DENIED, RESERVE, ask};
use crate::support::{Daemon, Handler, PATIENCE, Pipe, eventually, payload};

const PROTOCOL: &str = "/over/a/circuit";

/// Connects `a` to `d` through `relay`, which says that `limit` is the circuit's.
fn connect(relay: &ByHand, a: &Daemon, d: &Daemon, limit: Option<Limit>) {
    relay.daemon.connect_to(d);
    std::thread::scope(|scope| {
        let connected = scope.spawn(|| {
            a.client().connect_peer(d.peer_id(), &[relay.circuit()]);
        });
        relay.pass_on(a, d, limit);
        connected.join().expect("CONNECT");
    });
}

/// Both ends of a stream from `a` to `d`.
fn stream(a: &Daemon, d: &Daemon) -> (Pipe, Pipe) {
    let handler = Handler::unix();
    handler
        .register(&mut d.client(), &[PROTOCOL], None)
        .expect("a handler");
    let opened = a.client().open_stream(d.peer_id(), &[PROTOCOL]);
    let (_, near) = opened.expect("a stream over the circuit");
    let (_, far) = handler.accept(PATIENCE).expect("a stream");
    (near, far)
}

/// Whoever came by a circuit gets no place and no circuit.
#[test]
fn over_a_circuit_nobody_is_relayed() {
    let relay = ByHand::new();
    let (a, d) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    connect(&relay, &a, &d, None);
    let reserve = Hop {
        kind: Some(RESERVE),
        ..Hop::default()
    };
    let requests = [
        (reserve, "RESERVE"),
        (Hop::connect(relay.daemon.peer_id()), "to a direct peer"),
        (Hop::connect(PeerId::random()), "to nobody"),
        (Hop::connect(a.peer_id()), "to the asker"),
        (Hop::connect(d.peer_id()), "to the relay"),
    ];
    for (request, what) in requests {
        let opened = a.client().open_stream(d.peer_id(), &[HOP]);
        let (_, mut pipe) = opened.expect("a stream over the circuit");
        let answer: Hop = ask(&mut pipe, &request).expect("an answer");
        assert_eq!(answer.status, Some(PERMISSION_DENIED), "{what}");
        assert_eq!(answer.reservation, None, "{what}");
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).expect("its end");
        assert_eq!(rest, b"", "{what}");
    }
    let report = d.report();
    assert!(report.contains("reservations: 0"), "{report}");
    assert!(report.contains("circuits so far: 0"), "{report}");
    assert!(report.contains("refused: 5"), "{report}");
}

/// The relay is not asked for any of these.
#[test]
fn ways_that_lead_through_circuits_or_home_are_refused_at_once() {
    let relay = ByHand::new();
    let d = Daemon::spawn(&[LISTEN]);
    d.connect_to(&relay.daemon);
    let quiet = Quiet::of(&d);
    let (way, own, other) = (relay.circuit(), d.peer_id(), PeerId::random());
    let direct = &d.addrs()[0];
    let loops = "a circuit through a circuit, or to its relay";
    let home = "dial to self attempted";
    for (address, told) in [
        (format!("{way}/p2p/{other}/p2p-circuit"), loops),
        (format!("{way}{way}"), loops),
        (format!("{direct}/p2p/{own}/p2p-circuit"), home),
        (format!("/p2p/{own}/p2p-circuit"), home),
        (format!("{way}/p2p/{own}/p2p-circuit"), loops),
    ] {
        let parsed: Multiaddr = address.parse().expect("a multiaddr");
        let begun = Instant::now();
        let error = d.client().connect_to(PeerId::random(), &[parsed]);
        let error = error.expect_err("a circuit").to_string();
        assert!(error.contains(told), "{address}: {error}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{address}: {took:?}");
    }
    let to_itself = d.client().connect_to(own, std::slice::from_ref(&way));
    assert!(to_itself.is_err(), "{to_itself:?}");
    let asked = relay.hops.accept(Duration::from_millis(200));
    assert!(asked.is_err(), "the relay was asked");
    assert_eq!(d.client().list_peers().len(), 1, "the relay");
    quiet.assert_again(&d, "circuits that lead nowhere");
}

/// What a relay promises of a circuit's limits binds nobody: neither too little nor too much.
#[test]
fn limits_that_a_relay_lies_about_are_without_effect() {
    for (duration, data) in [(0, 0), (1, 1), (u32::MAX, u64::MAX)] {
        let relay = ByHand::new();
        let (a, d) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
        let limit = Limit {
            duration: Some(duration),
            data: Some(data),
        };
        connect(&relay, &a, &d, Some(limit));
        let (mut near, mut far) = stream(&a, &d);
        let sent = payload(64 << 10, 1);
        let written = std::thread::scope(|scope| {
            let written = scope.spawn(|| near.write_all(&sent));
            let mut got = vec![0; sent.len()];
            far.read_exact(&mut got).expect("payload");
            assert!(got == sent);
            written.join().expect("a writer")
        });
        written.expect("payload");
    }
}

/// A relay that leaves takes its circuits along: both ends hear of it, and hold nothing.
#[test]
fn a_relay_that_closes_in_mid_circuit_ends_both_sides() {
    let relay = ByHand::new();
    let (a, d) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    let quiet = [Quiet::of(&a), Quiet::of(&d)];
    connect(&relay, &a, &d, None);
    let (mut near, mut far) = stream(&a, &d);
    near.write_all(b"half").expect("payload");
    let mut half = [0; 4];
    far.read_exact(&mut half).expect("payload");
    assert_eq!(&half, b"half");
    let mut daemon = relay.daemon;
    assert!(daemon.terminate(PATIENCE).success());
    for pipe in [&mut near, &mut far] {
        let mut rest = Vec::new();
        let _ = pipe.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    for end in [&a, &d] {
        let alone = || end.client().list_peers().is_empty();
        assert!(eventually(PATIENCE, alone), "a peer is left");
        assert_quick(end, "after a relay has closed");
    }
    for (quiet, end) in quiet.iter().zip([&a, &d]) {
        quiet.assert_again(end, "a relay that has closed");
    }
}
