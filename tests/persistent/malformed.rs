//! Messages that are none (COMPATIBILITY.md 4.19).

use std::io::ErrorKind;

use rp2pd::wire::pb::PersistentConnectionResponse;

use super::*;
use crate::support::persistent::outcome;
use crate::support::{Random, raw};

const ID: [u8; 16] = [5; 16];

/// The text for the id that `message` carries.
fn failure(message: PersistentConnectionResponse) -> String {
    assert_eq!(message.call_id[..], ID);
    outcome(message.message).expect("an outcome").failure()
}

#[test]
fn what_lacks_a_part_is_told_and_the_connection_stays() {
    let daemon = node();
    let mut client = daemon.persistent();
    let required = |field: &str| format!("Malformed request; required field {field} not set");
    let peer = raw::bytes(1, &daemon.peer_id().to_bytes());
    for (number, body, text) in [
        (2, raw::bytes(1, b"p"), required("balanced")),
        (2, raw::int(2, 1), required("proto")),
        (3, raw::bytes(2, b"p"), required("peer")),
        (3, peer.clone(), required("proto")),
        (
            3,
            [peer.clone(), raw::bytes(2, b"p")].concat(),
            required("data"),
        ),
        (4, Vec::new(), required("response")),
        (6, Vec::new(), required("proto")),
        (
            7,
            Vec::new(),
            "Malformed request; no known message".to_owned(),
        ),
        (
            3,
            raw::bytes(1, b""),
            "multihash too short. must be >= 2 bytes".to_owned(),
        ),
    ] {
        let payload = [raw::bytes(1, &ID), raw::bytes(number, &body)].concat();
        client.client.send_raw(&raw::frame(&payload)).expect("send");
        assert_eq!(failure(client.receive().expect("an answer")), text);
    }
    client.add("p", false).expect("the connection works");
}

#[test]
fn a_call_id_of_another_length_is_not_answered() {
    let daemon = node();
    let mut client = daemon.persistent();
    for id in [&b"x"[..], &[1; 15], &[1; 17]] {
        let payload = [raw::bytes(1, id), raw::bytes(5, b"")].concat();
        client.client.send_raw(&raw::frame(&payload)).expect("send");
    }
    client.add("p", false).expect("the next answer is this one");
}

#[test]
fn what_cannot_be_read_fails_all_calls_and_ends_the_connection() {
    let (a, b) = pair();
    let _keeps_it_alive = a.persistent();
    let mut handler = handler(&b, "p");
    let too_large = [raw::varint((4 << 20) + 1), raw::bytes(1, &ID), vec![0x1a]].concat();
    let no_message = [raw::bytes(1, &ID), vec![0xff]].concat();
    for (bytes, known, reason) in [
        (too_large, true, "frame of 4194305 bytes exceeds the limit"),
        (raw::frame(&no_message), true, "Malformed request; "),
        (
            raw::frame(b""),
            false,
            "Malformed request; call id of 0 bytes",
        ),
        (vec![0xff; 11], false, "malformed frame length"),
    ] {
        let mut caller = a.persistent();
        let id = caller.begin(b.peer_id(), "p", b"x");
        let incoming = handler.incoming().expect("the call");
        caller.client.send_raw(&bytes).expect("send");
        if known {
            let text = failure(caller.receive().expect("an answer"));
            assert!(text.starts_with(reason), "{text}");
        }
        let text = caller.outcome(&id).failure();
        assert!(
            text.starts_with(&format!("persistent connection closed: {reason}")),
            "{text}"
        );
        let end = caller.receive().expect_err("the end");
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "an orderly one");
        handler.await_cancel(&incoming.id).expect("told");
    }
}

#[test]
fn random_bytes_never_hurt() {
    let mut random = Random::new("random_bytes_never_hurt");
    let daemon = node_with(&["-stayAlive"]);
    let mut witness = daemon.persistent();
    for round in 0..200 {
        let mut client = daemon.persistent();
        let len = random.below(300) + 1;
        let noise = random.bytes(len);
        let bytes = match round % 3 {
            0 => noise,
            1 => raw::frame(&noise),
            _ => raw::frame(&[raw::bytes(1, &ID), noise].concat()),
        };
        // The daemon may close before all is sent.
        let _ = client.client.send_raw(&bytes);
        let _ = client.client.pipe.socket.shutdown_write();
        while client.receive().is_ok() {}
    }
    witness.add("p", false).expect("the daemon works");
}

#[test]
fn a_frame_that_does_not_end_is_given_up() {
    let daemon = node_with(&["-stayAlive"]);
    let mut client = daemon.persistent();
    client.client.send_raw(&[100, 1]).expect("send");
    let started = std::time::Instant::now();
    let end = client.receive().expect_err("the end");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    let took = started.elapsed();
    assert!((29..40).contains(&took.as_secs()), "{took:?}");
}
