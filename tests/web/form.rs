//! The form of requests and answers.

use prost::Message as _;
use rp2pd::wire::json::{Frames, JsonError, message, request, response};
use rp2pd::wire::pb;

const PEER: &str = "12D3KooWAmKwccM6tyTK7rRb6ucFR2gcssbSyPfwSvv8MhsBkLjg";

/// Bytes of a request.
const MAX: usize = 8 << 20;

fn read(verb: &str, part: &str) -> pb::Request {
    let request = request(verb, part.as_bytes(), MAX).expect("a request");
    pb::Request::decode(&request.bytes[..]).expect("decoded")
}

fn refused(verb: &str, part: &str) -> String {
    request(verb, part.as_bytes(), MAX)
        .expect_err("refused")
        .to_string()
}

#[test]
fn requests_are_read_by_their_names() {
    let kind = |kind: pb::request::Type| Some(i64::from(i32::from(kind)));
    assert_eq!(
        read("identify", "").r#type,
        kind(pb::request::Type::Identify)
    );
    assert_eq!(
        read("LIST-PEERS", " ").r#type,
        kind(pb::request::Type::ListPeers)
    );
    let part = format!(r#"{{"peer":"{PEER}","addrs":["/ip4/127.0.0.1/tcp/1"],"timeout":5}}"#);
    let connect = read("connect", &part).connect.expect("a part");
    let peer: libp2p::PeerId = PEER.parse().expect("a peer");
    assert_eq!(connect.peer.as_deref(), Some(&peer.to_bytes()[..]));
    assert_eq!(connect.addrs[0][..], [4, 127, 0, 0, 1, 6, 0, 1]);
    assert_eq!(connect.timeout, Some(5));
    // One value for a list, numbers and bools as text, dashes in names.
    let part = r#"{"type":"expose","proto":"/x/web","target":"/unix/tmp/x","anyPeer":"true",
        "connections":"7","keep":false,"allow":null}"#;
    let tunnel = *read("tunnel", part).tunnel.expect("a part");
    assert_eq!((tunnel.r#type, tunnel.any_peer), (Some(1), Some(true)));
    assert_eq!((tunnel.keep, tunnel.connections), (Some(false), Some(7)));
    assert_eq!(tunnel.target.as_deref(), Some(&b"\x90\x03\x06/tmp/x"[..]));
    let part = r#"{"type":"announce-list"}"#;
    assert_eq!(
        read("control", part).control.expect("a part").r#type,
        Some(0)
    );
    let events = read("events", r#"{"kinds":["LIMIT",1,"peer_identified"]}"#);
    assert_eq!(events.events.expect("a part").kinds, [9, 1, 2]);
}

#[test]
fn field_9_is_what_its_type_says() {
    let removed = read(
        "remove_stream_handler",
        r#"{"addr":"/unix/tmp/x","proto":["a"]}"#,
    );
    let inner = pb::RemoveStreamHandlerRequest::decode(&removed.extension[0][..]).expect("read");
    assert_eq!(inner.proto, ["a"]);
    let asked = read(
        "peerstore",
        &format!(r#"{{"type":"GET_PROTOCOLS","id":"{PEER}"}}"#),
    );
    assert_eq!((asked.r#type, asked.extension.len()), (Some(9), 1));
    assert_eq!(asked.extension[0][..2], [8, 1]);
}

#[test]
fn bytes_have_three_forms() {
    let data = |part: &str| {
        read("pubsub", part)
            .pubsub
            .expect("a part")
            .data
            .expect("data")
    };
    assert_eq!(data(r#"{"data":"aGVsbG8="}"#), "hello");
    assert_eq!(data(r#"{"data":"aGVsbG8"}"#), "hello");
    assert_eq!(data(r#"{"data":{"text":"hello"}}"#), "hello");
    assert_eq!(data(r#"{"data":{"base64":""}}"#), "");
    let cid = read(
        "dht",
        r#"{"cid":"bafkreidtmxictbq6glcsd6aitmakn6zs3lygcubfw2nvthi44u2qdocfyi"}"#,
    );
    assert_eq!(
        cid.dht.expect("a part").cid.expect("a CID")[..4],
        [1, 0x55, 0x12, 32]
    );
}

#[test]
fn what_cannot_be_read_names_its_field() {
    for (verb, part, text) in [
        ("nothing", "", "unknown request"),
        ("identify", "{}", "the request has no parameters"),
        ("connect", r#"{"peer":"x"}"#, "\"peer\" has to be a peer id"),
        (
            "connect",
            r#"{"addrs":["x"]}"#,
            "\"addrs\" has to be a multiaddr",
        ),
        (
            "connect",
            r#"{"pear":1}"#,
            "ConnectRequest has no field \"pear\"",
        ),
        (
            "connect",
            r#"{"timeout":1.5}"#,
            "a whole number for \"timeout\"",
        ),
        (
            "connect",
            r#"{"timeout":18446744073709551615}"#,
            "\"timeout\" has to be a whole number",
        ),
        (
            "connect",
            r#"{"timeout":1,"timeout":2}"#,
            "\"timeout\" stands twice",
        ),
        ("connect", r#"{"peer":[]}"#, "\"peer\" has to be a peer id"),
        (
            "connect",
            r#"{"addrs":[[]]}"#,
            "\"addrs\" has to be a multiaddr",
        ),
        ("connect", "[]", "\"connect\" has to be an object"),
        ("connect", "{", "EOF while parsing"),
        ("connect", "{} {}", "trailing characters"),
        ("pubsub", r#"{"data":"_"}"#, "\"data\" has to be base64"),
        (
            "pubsub",
            r#"{"data":{"text":"a","base64":""}}"#,
            "\"data\" has to be base64",
        ),
        (
            "pubsub",
            r#"{"type":"NOTHING"}"#,
            "\"type\" has to be one of its names",
        ),
        (
            "events",
            r#"{"present":1}"#,
            "\"present\" has to be true or false",
        ),
        (
            "tunnel",
            r#"{"connections":-1}"#,
            "\"connections\" has to be a whole number, not below 0",
        ),
    ] {
        let told = refused(verb, part);
        assert!(told.contains(text), "{verb} {part}: {told}");
    }
    let deep = "[".repeat(100_000);
    assert!(request("connect", deep.as_bytes(), MAX).is_err());
}

#[test]
fn answers_are_written_with_their_names() {
    let peer: libp2p::PeerId = PEER.parse().expect("a peer");
    let told = |answer: &pb::Response| response(&answer.encode_to_vec()).expect("text");
    let identify = pb::Response {
        identify: Some(pb::IdentifyResponse {
            id: peer.to_bytes().into(),
            addrs: vec![vec![4, 127, 0, 0, 1, 6, 0, 1].into(), vec![1, 2, 3].into()],
        }),
        ..pb::Response::default()
    };
    assert_eq!(
        told(&identify),
        format!(
            r#"{{"type":"OK","identify":{{"id":"{PEER}","addrs":["/ip4/127.0.0.1/tcp/1",{{"base64":"AQID"}}]}}}}"#
        )
    );
    let error = pb::Response {
        r#type: 1,
        error: Some(pb::ErrorResponse {
            msg: "a \"b\"\n".into(),
        }),
        ..pb::Response::default()
    };
    assert_eq!(
        told(&error),
        r#"{"type":"ERROR","error":{"msg":"a \"b\"\n"}}"#
    );
    let event = pb::Response {
        event: Some(Box::new(pb::Event {
            kind: 99,
            time: 1_700_000_000_000_000,
            topic: Some(vec![0xff].into()),
            agent: Some("x".into()),
            ..pb::Event::default()
        })),
        ..pb::Response::default()
    };
    assert_eq!(
        told(&event),
        r#"{"type":"OK","event":{"kind":99,"time":1700000000000000,"agent":"x","topic":{"base64":"/w=="}}}"#
    );
    let status = pb::Response {
        status: Some(r#"{"version":"1"}"#.into()),
        ..pb::Response::default()
    };
    assert_eq!(told(&status), r#"{"type":"OK","status":{"version":"1"}}"#);
    let sent = pb::PsMessage {
        data: Some("hello".into()),
        topic_i_ds: vec!["t".into()],
        ..pb::PsMessage::default()
    };
    let text = message(&sent.encode_to_vec()).expect("text");
    assert_eq!(text, r#"{"data":"aGVsbG8=","topicIDs":["t"]}"#);
    assert!(matches!(response(&[0xff]), Err(JsonError::Message)));
}

#[test]
fn what_follows_is_known_from_the_request() {
    let follows =
        |verb: &str, part: &str| request(verb, part.as_bytes(), MAX).expect("read").follows;
    assert_eq!(follows("identify", ""), Frames::None);
    assert_eq!(follows("events", ""), Frames::Responses);
    assert_eq!(
        follows("pubsub", r#"{"type":"SUBSCRIBE","topic":"t"}"#),
        Frames::Messages
    );
    assert_eq!(follows("pubsub", r#"{"type":"GET_TOPICS"}"#), Frames::None);
    assert_eq!(follows("dht", r#"{"type":"FIND_PEER"}"#), Frames::Results);
    assert_eq!(follows("stream-open", ""), Frames::Other);
}

#[test]
fn a_request_has_a_largest_size_and_its_errors_too() {
    let numbers = |count: usize| format!("{{\"kinds\":[{}]}}", vec!["-1"; count].join(","));
    assert!(request("events", numbers(1000).as_bytes(), 12_000).is_ok());
    let large = request("events", numbers(2000).as_bytes(), 12_000).expect_err("too large");
    assert!(large.to_string().contains("larger than"), "{large}");
    for name in ["\u{7f}", "\u{10ffff}"] {
        let part = format!("{{\"{}\":1}}", name.repeat(100_000));
        assert!(refused("connect", &part).len() < 1024);
    }
}

#[test]
fn a_network_of_a_rule_is_text() {
    let asked = read(
        "control",
        r#"{"type":"RULES_ADD","rules":[{"network":"10.0.0.0/8"}]}"#,
    );
    let rule = &asked.control.expect("a part").rules[0];
    assert_eq!(rule.network.as_deref(), Some(&b"10.0.0.0/8"[..]));
    let answer = pb::Response {
        control: Some(Box::new(pb::ControlResponse {
            rules: vec![rule.clone()],
            ..pb::ControlResponse::default()
        })),
        ..pb::Response::default()
    };
    let text = response(&answer.encode_to_vec()).expect("a text");
    assert!(text.contains(r#""network":"10.0.0.0/8""#), "{text}");
}
