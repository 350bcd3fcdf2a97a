//! Relays that lie, keep silent or say too much.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use rp2pd::wire::frame;

use super::{ByHand, LISTEN};
use crate::support::quiet::{Quiet, assert_quick};
use crate::support::relay::{
    Hop, MALFORMED_MESSAGE, PERMISSION_DENIED, STATUS, STOP, Stop, receive,
};
use crate::support::{Daemon, PATIENCE, eventually, raw};

/// What CONNECT says if the relay answers with `bytes` and then ends.
fn told(relay: &ByHand, bytes: &[u8]) -> String {
    let d = Daemon::spawn(&[LISTEN]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let nobody = PeerId::random();
            d.client().connect_to(nobody, &[relay.circuit()])
        });
        let mut pipe = relay.asked();
        let _ = pipe.write_all(bytes);
        drop(pipe);
        let error = asked.join().expect("CONNECT").expect_err("no circuit");
        error.lines().last().unwrap_or_default().to_owned()
    })
}

#[test]
fn answers_of_relays_are_told_and_break_nothing() {
    let relay = ByHand::new();
    let answer = |kind: i32, status| {
        let message = Hop {
            kind: Some(kind),
            status,
            ..Hop::default()
        };
        frame::encode(&message).to_vec()
    };
    let refused = |status| answer(STATUS, Some(status));
    for (bytes, expected) in [
        (refused(201), "RESOURCE_LIMIT_EXCEEDED (201)"),
        (refused(203), "CONNECTION_FAILED (203)"),
        (refused(999), "error opening relay circuit:  (999)"),
        (refused(-1), "(-1)"),
        (
            answer(STATUS, None),
            "error opening relay circuit: UNUSED (0)",
        ),
        (answer(0, None), "not a status message (0)"),
        (Vec::new(), "stream reset"),
        (raw::varint(5000), "stream reset"),
        (vec![0xff; 64], "stream reset"),
        (raw::frame(&[0xff; 100]), "stream reset"),
        (raw::frame(&[8, 2])[..2].to_vec(), "stream reset"),
        // A circuit, and then no handshake.
        (refused(100), ""),
        ([refused(100), vec![0xff; 1 << 20]].concat(), ""),
    ] {
        let error = told(&relay, &bytes);
        assert!(error.contains(expected), "{bytes:?}: {error}");
    }
}

/// Whoever waits for one leaves, and nothing is left.
#[test]
fn a_relay_that_never_answers_holds_nothing() {
    let relay = ByHand::new();
    let d = Daemon::spawn(&[LISTEN]);
    d.connect_to(&relay.daemon);
    let quiet = Quiet::of(&d);
    let mut clients: Vec<_> = (0..32).map(|_| d.client()).collect();
    for client in &mut clients {
        let request = crate::support::control::connect(PeerId::random(), &[relay.circuit()]);
        client.send(&request).expect("CONNECT");
    }
    let held: Vec<_> = clients.iter().map(|_| relay.asked()).collect();
    assert_quick(&d, "while a relay is silent");
    drop(clients);
    let left = Instant::now();
    for mut pipe in held {
        let mut byte = [0];
        let end = pipe.read(&mut byte);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    let held = left.elapsed();
    assert!(held < Duration::from_secs(10), "held for {held:?}");
    quiet.assert_again(&d, "a silent relay");
}

#[test]
fn callers_that_cannot_be_are_refused() {
    let relay = ByHand::new();
    let a = Daemon::spawn(&[LISTEN]);
    relay.daemon.connect_to(&a);
    for (caller, who) in [
        (a.peer_id(), "the destination itself"),
        (relay.daemon.peer_id(), "the relay itself"),
    ] {
        let (status, _) = relay.ring(&a, caller);
        assert_eq!(status, Some(PERMISSION_DENIED), "{who}");
    }
    let say = |bytes: &[u8]| {
        let client = relay.daemon.client();
        let (_, mut pipe) = client.open_stream(a.peer_id(), &[STOP]).expect("a stream");
        let _ = pipe.write_all(bytes);
        let _ = pipe.socket.shutdown_write();
        receive::<Stop>(&mut pipe).ok().and_then(|stop| stop.status)
    };
    assert_eq!(say(&raw::varint(5000)), Some(MALFORMED_MESSAGE));
    assert_eq!(say(&raw::frame(&[0xff; 40])), Some(MALFORMED_MESSAGE));
    // CONNECT without a peer, and with one that is no peer id.
    assert_eq!(say(&raw::frame(&[8, 0])), Some(MALFORMED_MESSAGE));
    assert_eq!(
        say(&raw::frame(&[8, 0, 18, 2, 10, 0])),
        Some(MALFORMED_MESSAGE)
    );
    // STATUS out of order.
    assert_eq!(say(&raw::frame(&[8, 1, 32, 100])), Some(401));
    assert_eq!(say(&raw::frame(&[8, 0])[..2]), None);
    assert_eq!(say(&[]), None);
}

/// Callers without end, of whom none ever says a word.
#[test]
fn a_relay_brings_so_many_circuits_and_no_more() {
    let relay = ByHand::new();
    let a = Daemon::spawn(&[LISTEN]);
    relay.daemon.connect_to(&a);
    let quiet = Quiet::of(&a);
    let mut rung = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let (status, pipe) = relay.ring(&a, PeerId::random());
        match status {
            Some(100) => rung.push(pipe),
            Some(201) => refused += 1,
            // It has given way to another that is being secured.
            _ => {}
        }
    }
    assert!(
        rung.len() <= 256 && refused > 0,
        "{} rung, {refused} refused",
        rung.len()
    );
    assert_quick(&a, "while circuits are silent");
    // None lasts longer than any other handshake, and none has cost the relay's connection.
    let over = Instant::now() + Duration::from_secs(40);
    for mut pipe in rung {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        assert!(Instant::now() < over);
    }
    assert_eq!(a.client().list_peers().len(), 1, "the relay");
    let again = eventually(PATIENCE, || relay.ring(&a, PeerId::random()).0 == Some(100));
    assert!(again, "circuits are taken again");
    quiet.assert_again(&a, "silent circuits");
}

/// Each circuit becomes an inbound connection. Where there are few places for those, one relay does
/// not get all of them.
#[test]
fn on_a_small_node_a_relay_gets_a_share_of_the_places() {
    let relay = ByHand::new();
    let a = Daemon::spawn(&[LISTEN, "-connMaxInbound=40"]);
    relay.daemon.connect_to(&a);
    let rung: Vec<_> = (0..40)
        .map(|_| relay.ring(&a, PeerId::random()))
        .filter(|(status, _)| *status == Some(100))
        .collect();
    assert!((1..=10).contains(&rung.len()), "{} rung", rung.len());
    assert!(a.bites("inbound circuits from one relay") >= 25);
    for _ in 0..5 {
        Daemon::spawn(&["-noListenAddrs"]).connect_to(&a);
    }
}
