//! Frames as they arrive on a stream socket: in pieces, in heaps, too long (COMPATIBILITY.md 3.1,
//! 3.2).

use std::io::ErrorKind;

use super::*;
use crate::support::{Launch, Random};

/// The limit of COMPATIBILITY.md 3.1.
const LIMIT: usize = 4_194_304;

/// IDENTIFY whose frame has exactly `len` bytes of payload, by an unknown field.
fn padded_identify(len: usize) -> Vec<u8> {
    let head = raw::int(1, 0);
    // The length of the padding has one size of varint over the whole range used.
    let field = |pad: usize| [head.clone(), raw::bytes(100, &vec![0x55; pad])].concat();
    let overhead = field(len - 20).len() - (len - 20);
    let payload = field(len - overhead);
    assert_eq!(payload.len(), len);
    payload
}

#[test]
fn identify_is_answered_byte_for_byte() {
    let daemon = Daemon::spawn(&["-noListenAddrs"]);
    let id = daemon.peer_id().to_bytes();
    let mut client = daemon.client();
    client.send_raw(&[2, 8, 0]).expect("send");
    let answer = client.pipe.read_frame().expect("an answer");
    let expected = [raw::int(1, 0), raw::bytes(4, &raw::bytes(1, &id))].concat();
    assert_eq!(answer[..], expected);
    // LIST_PEERS of a lonely daemon: nothing but the type.
    client.send_raw(&[2, 8, 5]).expect("send");
    assert_eq!(client.pipe.read_frame().expect("an answer")[..], [8, 0]);
}

#[test]
fn the_largest_frame_passes_and_one_byte_more_does_not() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    assert!(ask(&mut client, &padded_identify(LIMIT)).identify.is_some());
    assert_open(&mut client);

    // The header alone decides.
    client
        .send_raw(&raw::varint(LIMIT as u64 + 1))
        .expect("send");
    let answer: Response = client.receive().expect("an answer");
    assert_eq!(
        error_text(&answer),
        "frame of 4194305 bytes exceeds the limit of 4194304"
    );
    assert_closed(&mut client);

    // A client that has sent it all still gets to read why.
    let mut client = daemon.client();
    let text = refusal(&mut client, &padded_identify(LIMIT + 1));
    assert!(text.contains("exceeds the limit"), "{text}");
    assert_closed(&mut client);
}

#[test]
fn the_limit_can_be_configured() {
    let daemon = Daemon::spawn(&["-persistentConnMaxMsgSize=1000"]);
    let mut client = daemon.client();
    assert!(ask(&mut client, &padded_identify(1000)).identify.is_some());
    let text = refusal(&mut client, &padded_identify(1001));
    assert_eq!(text, "frame of 1001 bytes exceeds the limit of 1000");
    assert_closed(&mut client);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let strangers: Vec<PeerId> = (0..300).map(|_| PeerId::random()).collect();
    let mut burst = Vec::new();
    for peer in &strangers {
        burst.extend(raw::frame(&connect(&peer.to_bytes(), &[], None)));
        burst.extend([2, 8, 0, 2, 8, 5]);
    }
    client.send_raw(&burst).expect("send");
    for peer in &strangers {
        let answer: Response = client.receive().expect("CONNECT's answer");
        assert_eq!(
            error_text(&answer),
            format!("failed to dial: failed to dial {peer}: no addresses")
        );
        let answer: Response = client.receive().expect("IDENTIFY's answer");
        assert!(answer.identify.is_some());
        let answer: Response = client.receive().expect("LIST_PEERS' answer");
        assert_eq!(answer, Response::default());
    }
}

#[test]
fn one_connection_carries_any_number_of_requests() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    for _ in 0..10_000 {
        assert_open(&mut client);
    }
}

#[test]
fn a_half_closed_requester_gets_its_answers() {
    let daemon = Daemon::spawn(&[]);
    for _ in 0..50 {
        let mut client = daemon.client();
        client.send_raw(&[2, 8, 0, 2, 8, 5, 2, 8, 0]).expect("send");
        client.pipe.socket.shutdown_write().expect("half-close");
        for _ in 0..3 {
            let answer: Response = client.receive().expect("an answer");
            assert_eq!(answer.r#type(), response::Type::Ok);
        }
        assert_closed(&mut client);
    }
}

#[test]
fn a_connection_without_a_byte_is_harmless() {
    let daemon = Daemon::spawn(&[]);
    for _ in 0..100 {
        drop(daemon.client());
    }
    assert_open(&mut daemon.client());
}

#[test]
fn varints_and_payloads_arrive_byte_by_byte() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    // A header of two bytes.
    for byte in raw::frame(&padded_identify(300)) {
        client.send_raw(&[byte]).expect("send");
    }
    let answer: Response = client.receive().expect("an answer");
    assert!(answer.identify.is_some());
}

/// Requests with distinguishable answers, and a check of those answers.
fn conversation() -> (Vec<u8>, impl Fn(&mut ControlClient)) {
    let peer = PeerId::random();
    let bytes = [
        raw::frame(&padded_identify(200)),
        raw::frame(&connect(&peer.to_bytes(), &[], None)),
        raw::frame(&raw::int(1, 5)),
    ]
    .concat();
    let check = move |client: &mut ControlClient| {
        let answer: Response = client.receive().expect("IDENTIFY's answer");
        assert!(answer.identify.is_some());
        let answer: Response = client.receive().expect("CONNECT's answer");
        assert!(error_text(&answer).contains(&peer.to_base58()));
        let answer: Response = client.receive().expect("LIST_PEERS' answer");
        assert_eq!(answer, Response::default());
    };
    (bytes, check)
}

#[test]
fn frames_may_be_split_anywhere() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let (bytes, check) = conversation();
    for at in 1..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        client.send_raw(head).expect("send");
        client.send_raw(tail).expect("send");
        check(&mut client);
    }
    let mut random = Random::new("frames_may_be_split_anywhere");
    for _ in 0..300 {
        for piece in random.cut(&bytes, 8) {
            client.send_raw(piece).expect("send");
        }
        check(&mut client);
    }
}

#[test]
fn a_length_that_overflows_ends_the_connection_with_a_reason() {
    let daemon = Daemon::spawn(&[]);
    let beyond_64_bits = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x60];
    let too_long: [&[u8]; 4] = [&[0xff; 10], &[0xff; 64], &[0x80; 11], &beyond_64_bits];
    for header in too_long {
        let mut client = daemon.client();
        client.send_raw(header).expect("send");
        let answer: Response = client.receive().expect("an answer");
        assert_eq!(error_text(&answer), "malformed frame length");
        assert_closed(&mut client);
    }
}

#[test]
fn the_tcp_control_socket_speaks_the_same() {
    let daemon = Launch::new().tcp().spawn();
    let mut client = daemon.client();
    assert!(
        ask(&mut client, &padded_identify(100_000))
            .identify
            .is_some()
    );
    let (bytes, check) = conversation();
    let mut random = Random::new("the_tcp_control_socket_speaks_the_same");
    for _ in 0..100 {
        for piece in random.cut(&bytes, 8) {
            client.send_raw(piece).expect("send");
        }
        check(&mut client);
    }
    client.pipe.socket.shutdown_write().expect("half-close");
    let end = client.pipe.read_frame().expect_err("no more answers");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
}
