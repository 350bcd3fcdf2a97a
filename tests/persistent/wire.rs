//! What travels from daemon to daemon, by hand on either side (COMPATIBILITY.md 4.21).

use std::io::Read;

use prost::Message;
use rp2pd::wire::frame;
use rp2pd::wire::pb::persistent_connection_request::Message as Ask;
use rp2pd::wire::pb::{Cancel, PersistentConnectionRequest};

use super::*;
use crate::support::persistent::{call_request, unary};
use crate::support::{Handler, Pipe, raw};

const ID: [u8; 16] = *b"id of the caller";

fn message(id: &[u8], message: Ask) -> Vec<u8> {
    let message = PersistentConnectionRequest {
        call_id: Some(id.to_vec().into()),
        message: Some(message),
    };
    frame::encode(&message).to_vec()
}

/// A stream to the handler of calls at `b`, and that handler.
fn by_hand() -> (Daemon, Daemon, Pipe, Persistent) {
    let (a, b) = pair();
    let handler = handler(&b, "p");
    let (_, pipe) = a.client().open_stream(b.peer_id(), &["p"]).expect("open");
    pipe.socket.set_timeout(PATIENCE).expect("a timeout");
    (a, b, pipe, handler)
}

/// The callee has ended the stream without a byte.
fn assert_ended(mut pipe: Pipe, what: &str) {
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).expect("an end");
    assert_eq!(rest, b"", "{what}");
}

#[test]
fn a_call_made_by_hand_is_answered_byte_for_byte() {
    let (a, b, mut pipe, mut handler) = by_hand();
    let call = [
        raw::bytes(1, &b.peer_id().to_bytes()),
        raw::bytes(2, b"p"),
        raw::bytes(3, b"question"),
    ];
    let call = [raw::bytes(1, &ID), raw::bytes(3, &call.concat())].concat();
    std::io::Write::write_all(&mut pipe, &raw::frame(&call)).expect("send");
    let incoming = handler.incoming().expect("the call");
    assert_eq!(incoming.data, b"question");
    assert_eq!(incoming.peer, a.peer_id().to_bytes());
    handler
        .answer(&incoming.id, Ok(Vec::new()))
        .expect("answer");
    let answer = [raw::bytes(1, &ID), raw::bytes(4, &raw::bytes(1, b""))].concat();
    let mut all = Vec::new();
    pipe.read_to_end(&mut all).expect("an end");
    assert_eq!(all, raw::frame(&answer));
}

#[test]
fn a_handler_is_told_the_true_caller_and_the_agreed_name() {
    let (a, _b, mut pipe, mut handler) = by_hand();
    let lie = call_request(&libp2p::PeerId::random().to_bytes(), "Admin.rpc_stop", b"x");
    std::io::Write::write_all(&mut pipe, &message(&ID, Ask::CallUnary(lie))).expect("send");
    let incoming = handler.incoming().expect("the call");
    assert_eq!(incoming.peer, a.peer_id().to_bytes());
    assert_eq!(incoming.name, "p");
}

#[test]
fn what_is_no_call_ends_the_stream_and_reaches_nobody() {
    let peer = libp2p::PeerId::random().to_bytes();
    let call = |id: &[u8]| message(id, Ask::CallUnary(call_request(&peer, "p", b"x")));
    for (what, bytes) in [
        ("a short id", call(b"short")),
        ("no id", raw::frame(&raw::bytes(3, b""))),
        ("a cancel", message(&ID, Ask::Cancel(Cancel {}))),
        (
            "an answer",
            message(&ID, Ask::UnaryResponse(unary(Ok(vec![])))),
        ),
        ("no message", raw::frame(&raw::bytes(1, &ID))),
        ("an empty frame", vec![0]),
        ("no protobuf", raw::frame(b"\xff\xff\xff")),
        ("a length that overflows", vec![0xff; 11]),
        ("a frame too large", raw::varint((4 << 20) + 1)),
    ] {
        let (_a, _b, mut pipe, mut handler) = by_hand();
        std::io::Write::write_all(&mut pipe, &bytes).expect("send");
        assert_ended(pipe, what);
        assert!(handler.is_silent_for(Duration::from_millis(20)), "{what}");
    }
}

#[test]
fn a_caller_that_ends_its_side_cancels_the_call() {
    let (_a, _b, mut pipe, mut handler) = by_hand();
    let call = message(&ID, Ask::CallUnary(call_request(b"12", "p", b"x")));
    std::io::Write::write_all(&mut pipe, &call).expect("send");
    let incoming = handler.incoming().expect("the call");
    pipe.socket.shutdown_write().expect("half-close");
    handler.await_cancel(&incoming.id).expect("told");
    let _ = pipe.read_to_end(&mut Vec::new());
}

#[test]
fn a_call_in_many_pieces_arrives() {
    let (_a, _b, mut pipe, mut handler) = by_hand();
    let call = message(&ID, Ask::CallUnary(call_request(b"12", "p", b"pieces")));
    for byte in call {
        std::io::Write::write_all(&mut pipe, &[byte]).expect("send");
    }
    assert_eq!(handler.incoming().expect("the call").data, b"pieces");
}

/// A callee made of a handler of streams, and a call to it.
fn called() -> (Daemon, Daemon, Persistent, [u8; 16], Pipe) {
    let (a, b) = pair();
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["p"], None)
        .expect("register");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"question");
    let (_, pipe) = handler.accept(PATIENCE).expect("the stream");
    (a, b, caller, id, pipe)
}

#[test]
fn a_call_goes_out_byte_for_byte_and_its_stream_stays_open() {
    let (_a, b, mut caller, id, mut pipe) = called();
    let call = [
        raw::bytes(1, &b.peer_id().to_bytes()),
        raw::bytes(2, b"p"),
        raw::bytes(3, b"question"),
    ];
    let call = [raw::bytes(1, &id), raw::bytes(3, &call.concat())].concat();
    assert_eq!(pipe.read_frame().expect("the call")[..], call);
    // The end of the caller's side would cancel the call.
    pipe.socket.set_timeout(SOON).expect("a timeout");
    let still_open = pipe.read(&mut [0]).expect_err("no end");
    assert_eq!(still_open.kind(), std::io::ErrorKind::WouldBlock);
    // The id of the answer does not matter.
    let answer = message(&[3; 16], Ask::UnaryResponse(unary(Ok(b"answer".to_vec()))));
    std::io::Write::write_all(&mut pipe, &answer).expect("answer");
    assert_eq!(caller.outcome(&id).response(), b"answer");
    pipe.socket.set_timeout(PATIENCE).expect("a timeout");
    assert_eq!(pipe.read(&mut [0]).unwrap_or(0), 0, "then it is over");
}

#[test]
fn answers_that_are_none_are_told_to_the_caller() {
    let nothing = PersistentConnectionRequest {
        call_id: Some(ID.to_vec().into()),
        message: Some(Ask::UnaryResponse(Default::default())),
    };
    let whole = message(&ID, Ask::UnaryResponse(unary(Ok(b"cut".to_vec()))));
    let empty = "malformed answer; neither response nor error";
    for (bytes, text) in [
        (Vec::new(), "EOF"),
        (whole[..whole.len() - 1].to_vec(), "unexpected EOF"),
        (vec![0x80], "unexpected EOF"),
        (raw::varint((4 << 20) + 1), "short buffer"),
        (vec![0xff; 11], "malformed answer; malformed frame length"),
        (frame::encode(&nothing).to_vec(), empty),
        (message(&ID, Ask::Cancel(Cancel {})), empty),
        (vec![0], empty),
    ] {
        let (_a, _b, mut caller, id, mut pipe) = called();
        let _ = pipe.read_frame().expect("the call");
        std::io::Write::write_all(&mut pipe, &bytes).expect("send");
        drop(pipe);
        assert_eq!(caller.outcome(&id).failure(), text, "{bytes:?}");
    }
    let (_a, _b, mut caller, id, mut pipe) = called();
    let _ = pipe.read_frame().expect("the call");
    std::io::Write::write_all(&mut pipe, &raw::frame(b"\xff\xff")).expect("send");
    let text = caller.outcome(&id).failure();
    assert!(text.starts_with("malformed answer; "), "{text}");
    let decoded = PersistentConnectionRequest::decode(&b"\xff\xff"[..]);
    assert!(text.ends_with(&decoded.expect_err("no message").to_string()));
}
