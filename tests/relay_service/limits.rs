//! The limits of the flags, in force from the first moment.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::relay;
use crate::support::relay::{
    End, MALFORMED_MESSAGE, NO_RESERVATION, OK, PERMISSION_DENIED, RESOURCE_LIMIT_EXCEEDED,
};
use crate::support::{PATIENCE, eventually, payload};

#[test]
fn circuits_count_for_both_of_their_ends() {
    let relay = relay(&["-relayMaxCircuits=2"]);
    let ends: Vec<End> = (0..3).map(|_| End::new(&relay)).collect();
    ends.iter().for_each(|end| end.reserved(&relay));
    let full = Some(RESOURCE_LIMIT_EXCEEDED);
    let first = ends[0].circuit(&relay, &ends[1]);
    let _second = ends[2].circuit(&relay, &ends[1]);
    let called = |from: usize, to: usize| ends[from].called(&relay, ends[to].peer_id());
    assert_eq!(called(0, 1), full, "the destination has two");
    assert_eq!(called(1, 0), full, "the source has two as a destination");
    let _third = ends[0].circuit(&relay, &ends[2]);
    assert_eq!(called(0, 2), full, "both have two");
    assert!(relay.bites("circuits of one peer through this relay") >= 3);
    drop(first);
    let free = eventually(PATIENCE, || relay.report().contains(", circuits: 2,"));
    assert!(free, "a circuit that has ended still counts");
    let _fourth = ends[1].circuit(&relay, &ends[0]);
}

#[test]
fn without_circuits_or_reservations_there_are_none() {
    let no_circuits = relay(&["-relayMaxCircuits=0"]);
    let (source, destination) = (End::new(&no_circuits), End::new(&no_circuits));
    destination.reserved(&no_circuits);
    let status = source.called(&no_circuits, destination.peer_id());
    assert_eq!(status, Some(RESOURCE_LIMIT_EXCEEDED));
    let no_places = relay(&["-relayMaxReservations=0"]);
    let end = End::new(&no_places);
    assert_eq!(end.reserve(&no_places).status, Some(200));
    assert_eq!(
        end.called(&no_places, end.peer_id()),
        Some(PERMISSION_DENIED)
    );
}

#[test]
fn nobody_is_connected_to_itself() {
    let relay = relay(&[]);
    let end = End::new(&relay);
    end.reserved(&relay);
    let status = end.called(&relay, end.peer_id());
    assert_eq!(status, Some(PERMISSION_DENIED));
    // The relay itself has no reservation.
    let status = end.called(&relay, relay.peer_id());
    assert_eq!(status, Some(NO_RESERVATION));
    assert!(!end.is_called(Duration::from_millis(200)));
}

#[test]
fn each_direction_has_its_bytes() {
    const LIMIT: usize = 300_000;
    let relay = relay(&[&format!("-relayDataLimit={LIMIT}")]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let (mut near, mut far) = source.circuit(&relay, &destination);
    let (there, back) = (payload(LIMIT, 1), payload(LIMIT + 1, 2));
    near.write_all(&there[1..]).expect("payload");
    let mut got = vec![0; LIMIT - 1];
    far.read_exact(&mut got).expect("payload");
    assert!(got == there[1..], "one byte is left in this direction");
    far.write_all(&back).expect("payload");
    got.clear();
    near.read_to_end(&mut got).expect("payload and its end");
    assert!(got == back[..LIMIT], "{} bytes, not {LIMIT}", got.len());
    // The other direction has its last byte, and no more.
    near.write_all(b"xy").expect("payload");
    got.clear();
    far.read_to_end(&mut got).expect("payload and its end");
    assert_eq!(got, b"x");
    let ended = eventually(PATIENCE, || relay.report().contains(", circuits: 0,"));
    assert!(ended, "the circuit has not ended");
}

#[test]
fn a_circuit_has_its_time() {
    let relay = relay(&["-relayTimeLimit=1500ms"]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let begun = Instant::now();
    let (near, mut far) = source.circuit(&relay, &destination);
    far.write_all(b"still there").expect("payload");
    let ends = [near, far].map(|mut pipe| {
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            // A reset shows as an end or as an error.
            let _ = pipe.read_to_end(&mut rest);
            (rest, begun.elapsed())
        })
    });
    let [near, far] = ends.map(|end| end.join().expect("an end"));
    assert_eq!((near.0, far.0), (b"still there".to_vec(), Vec::new()));
    for time in [near.1, far.1] {
        assert!(time >= Duration::from_millis(1500), "{time:?}");
        assert!(time < PATIENCE, "{time:?}");
    }
}

#[test]
fn messages_that_are_none_are_refused() {
    let relay = relay(&[]);
    let end = End::new(&relay);
    for bytes in [
        &[3, 8, 99, 0][..],
        // STATUS is no request, nor is a message without a kind.
        &[5, 8, 2, 40, 100, 0],
        &[0],
        // CONNECT to nobody, and to what is no peer.
        &[2, 8, 1],
        &[7, 8, 1, 18, 3, 10, 1, 7],
        &[2, 0xff, 0xff],
        // 4097 bytes.
        &[0x81, 0x20],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        let mut pipe = end.hop(&relay);
        pipe.write_all(bytes).expect("a message");
        let answer: crate::support::relay::Hop =
            crate::support::relay::receive(&mut pipe).expect("an answer");
        assert_eq!(answer.status, Some(MALFORMED_MESSAGE), "{bytes:?}");
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).expect("its end");
        assert_eq!(rest, b"");
    }
    assert_eq!(end.reserve(&relay).status, Some(OK));
}
