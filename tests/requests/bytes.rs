//! Names that are not UTF-8. Go's strings are any bytes, and clients rely on nothing else.

use std::io::Write;

use super::*;
use crate::support::persistent::{Outcome, outcome};
use crate::support::{PATIENCE, Persistent};
use rp2pd::wire::pb::persistent_connection_request::Message as Ask;
use rp2pd::wire::pb::persistent_connection_response::Message as Told;
use rp2pd::wire::pb::{AddUnaryHandlerRequest, CallUnaryRequest};

/// Neither is UTF-8, and they differ only where a lossy reading would not.
const NAMES: [&[u8]; 2] = [b"/\xff\xfe/1", b"/\xfe\xff/1"];

fn open(peer: PeerId, names: &[&[u8]]) -> Vec<u8> {
    let names = names.iter().flat_map(|name| raw::bytes(2, name));
    let body: Vec<u8> = raw::bytes(1, &peer.to_bytes())
        .into_iter()
        .chain(names)
        .collect();
    [raw::int(1, 2), raw::bytes(3, &body)].concat()
}

fn register(handler: &Handler, names: &[&[u8]]) -> Vec<u8> {
    let names = names.iter().flat_map(|name| raw::bytes(2, name));
    let body: Vec<u8> = raw::bytes(1, &handler.addr_bytes())
        .into_iter()
        .chain(names)
        .collect();
    [raw::int(1, 3), raw::bytes(4, &body)].concat()
}

#[test]
fn streams_of_any_name_are_served_as_in_go() {
    let (a, b) = pair();
    let handlers = NAMES.map(|name| {
        let handler = Handler::unix();
        let mut client = b.client();
        let answer = ask(&mut client, &register(&handler, &[name, b"/text"]));
        assert_eq!(answer.r#type(), response::Type::Ok, "{answer:?}");
        assert_open(&mut client);
        handler
    });
    for (name, handler) in NAMES.into_iter().zip(&handlers) {
        let mut client = a.client();
        let answer = ask(&mut client, &open(b.peer_id(), &[b"\xff", name]));
        assert_eq!(answer.stream_info.expect("a stream").proto, name);
        let (told, mut far) = handler.accept(PATIENCE).expect("the stream");
        assert_eq!(told.proto, name);
        far.write_all(b"fine").expect("write");
        client.pipe.read_exact(&mut [0; 4]).expect("read");
    }
    // The name beside it is served as well, by who registered last.
    let (told, _near) = a
        .client()
        .open_stream(b.peer_id(), &["/text"])
        .expect("open");
    assert_eq!(told.proto, "/text");
    assert_eq!(
        handlers[1].accept(PATIENCE).expect("the stream").0.proto,
        "/text"
    );
}

#[test]
fn a_refusal_that_names_them_is_text_and_the_connection_stays() {
    let (a, b) = pair();
    let mut client = a.client();
    let text = refusal(&mut client, &open(b.peer_id(), &[b"/\xff", b"/x"]));
    assert_eq!(
        text,
        "failed to negotiate protocol: protocols not supported: [/\u{fffd} /x]"
    );
    let handler = Handler::unix();
    let body = [raw::bytes(1, &handler.addr_bytes()), raw::bytes(2, b"\xff")].concat();
    let text = refusal(
        &mut client,
        &[raw::int(1, 10), raw::bytes(9, &body)].concat(),
    );
    assert_eq!(text, "handler for protocol \u{fffd} does not exist");
    let long = [0xff; 257];
    let text = refusal(&mut client, &register(&handler, &[&long]));
    assert_eq!(
        text,
        "protocol name of 257 bytes: must be 1 to 256 bytes long"
    );
    assert_open(&mut client);
}

#[test]
fn tags_and_fields_that_nobody_reads_may_be_any_bytes() {
    let (a, b) = pair();
    let mut client = a.client();
    let peer = b.peer_id().to_bytes();
    for (kind, tag) in [
        (0, &b"\xff"[..]),
        (0, b"\xfe"),
        (1, b"\xff"),
        (1, b"none\xff"),
    ] {
        let body = [
            raw::int(1, kind),
            raw::bytes(2, &peer),
            raw::bytes(3, tag),
            raw::int(4, 1),
        ];
        let answer = ask(
            &mut client,
            &[raw::int(1, 6), raw::bytes(6, &body.concat())].concat(),
        );
        assert_eq!(answer.r#type(), response::Type::Ok, "{answer:?}");
    }
    let body = [raw::int(1, 1), raw::bytes(2, &peer), raw::bytes(3, b"\xff")].concat();
    let answer = ask(
        &mut client,
        &[raw::int(1, 9), raw::bytes(9, &body)].concat(),
    );
    assert!(answer.peer_store.is_some(), "{answer:?}");
    assert_open(&mut client);
}

fn answer(connection: &mut Persistent, id: &[u8; 16], ask: Ask) -> Option<Told> {
    connection.send(id, Some(ask)).expect("send");
    let message = connection.receive().expect("an answer");
    assert_eq!(message.call_id[..], *id);
    message.message
}

#[test]
fn calls_of_any_name_are_made_and_handled() {
    let (a, b) = pair();
    let mut handler = b.persistent();
    let add = Ask::AddUnaryHandler(AddUnaryHandlerRequest {
        proto: Some(NAMES[0].into()),
        balanced: Some(false),
    });
    assert_eq!(answer(&mut handler, &[1; 16], add), None);
    let mut caller = a.persistent();
    let call = |name: &'static [u8]| {
        Ask::CallUnary(CallUnaryRequest {
            peer: Some(b.peer_id().to_bytes().into()),
            proto: Some(name.into()),
            data: Some(b"data"[..].into()),
        })
    };
    let serving = std::thread::spawn(move || {
        let message = handler.receive().expect("a call");
        let Some(Told::RequestHandling(call)) = &message.message else {
            panic!("no call: {message:?}");
        };
        assert_eq!(call.proto.as_deref(), Some(NAMES[0]));
        let id = message.call_id[..].try_into().expect("16 bytes");
        handler.answer(&id, Ok(b"fine".to_vec())).expect("answer");
        handler
    });
    let answered = answer(&mut caller, &[2; 16], call(NAMES[0]));
    let answered = outcome(answered).expect("an outcome");
    assert_eq!(answered.response(), b"fine");
    // Another name is another protocol.
    let refused = answer(&mut caller, &[3; 16], call(NAMES[1]));
    let refused = outcome(refused).expect("an outcome");
    assert!(matches!(refused, Outcome::DaemonError(_)), "{refused:?}");
    let _ = serving.join().expect("the handler");
}
