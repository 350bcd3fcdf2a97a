//! STREAM_OPEN: outcomes, texts, what is negotiated when (COMPATIBILITY.md 4.8).

use std::io::Write;
use std::time::Duration;

use super::*;
use crate::support::PATIENCE;

#[test]
fn the_answer_tells_peer_address_and_protocol() {
    let (a, b) = pair();
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["/exact/1", "bare"], None)
        .expect("register");
    for name in ["/exact/1", "bare"] {
        let (info, _pipe) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
        assert_eq!(info.peer[..], b.peer_id().to_bytes());
        assert_eq!(info.addr[..], b.addrs()[0].to_vec());
        assert_eq!(info.proto, name);
        let (told, _far) = handler.accept(PATIENCE).expect("the stream");
        assert_eq!(told.peer[..], a.peer_id().to_bytes());
        assert_eq!(told.proto, name);
        let seen_at = b.client().list_peers()[0].1[0].to_vec();
        assert_eq!(told.addr[..], seen_at);
    }
}

#[test]
fn a_peer_that_is_not_connected_is_dialed() {
    let (a, b) = pair();
    a.client().disconnect(b.peer_id());
    // Its address is still known.
    let opened = a.client().open_stream(b.peer_id(), &["/echo/1.0.0"]);
    let (info, pipe) = opened.expect("open");
    assert_eq!(info.addr[..], b.addrs()[0].to_vec());
    assert_eq!(pipe.exchange(b"hello"), b"hello");
}

#[test]
fn failures_are_worded_as_in_go_and_the_connection_stays() {
    let (a, b) = pair();
    let stranger = PeerId::random();
    let mut client = a.client();
    let cases = [
        (
            stream_open(b.peer_id(), &["/x", "/y"]),
            "failed to negotiate protocol: protocols not supported: [/x /y]".to_owned(),
        ),
        (
            stream_open(b.peer_id(), &["x"]),
            "failed to negotiate protocol: protocols not supported: [x]".to_owned(),
        ),
        (
            stream_open(b.peer_id(), &[]),
            "failed to negotiate protocol: no protocols specified".to_owned(),
        ),
        (
            stream_open(a.peer_id(), &["/x"]),
            "failed to dial: dial to self attempted".to_owned(),
        ),
        (
            stream_open(stranger, &["/x"]),
            format!("failed to dial: failed to dial {stranger}: no addresses"),
        ),
    ];
    for _ in 0..3 {
        for (request, expected) in &cases {
            assert_eq!(refusal(&mut client, request), *expected);
            assert_open(&mut client);
        }
    }
    // And it still opens streams.
    let opened = client.open_stream(b.peer_id(), &["/echo/1.0.0"]);
    let (_, pipe) = opened.expect("open");
    assert_eq!(pipe.exchange(b"still here"), b"still here");
}

#[test]
fn names_that_cannot_be_negotiated_are_refused_not_sent() {
    let (a, b) = pair();
    for name in ["", &"x".repeat(257), &format!("/{}", "y".repeat(100_000))] {
        let text = open_error(&a, b.peer_id(), &[name]);
        assert!(!text.is_empty());
    }
    // The connection took no harm.
    assert_eq!(a.client().list_peers().len(), 1);
    let (_, pipe) = a
        .client()
        .open_stream(b.peer_id(), &["/echo/1.0.0"])
        .expect("open");
    assert_eq!(pipe.exchange(b"fine"), b"fine");
}

#[test]
fn of_a_list_the_first_that_the_remote_speaks_is_taken() {
    let (a, b) = pair();
    let handler = Handler::unix();
    let spoken = ["/two", "/three", "four"];
    handler
        .register(&mut b.client(), &spoken, None)
        .expect("register");
    let cases: [(&[&str], &str); 4] = [
        (&["/one", "/two", "/three"], "/two"),
        (&["/three", "/two"], "/three"),
        (&["one", "four", "five"], "four"),
        (&["/one", "one", "/uno", "four"], "four"),
    ];
    for (proposed, expected) in cases {
        let (info, _near) = a.client().open_stream(b.peer_id(), proposed).expect("open");
        assert_eq!(info.proto, expected, "of {proposed:?}");
        let (told, _far) = handler.accept(PATIENCE).expect("the stream");
        assert_eq!(told.proto, expected, "of {proposed:?}");
    }
}

#[test]
fn a_known_protocol_is_opened_without_waiting_for_the_remote() {
    let (a, b) = (node(), node());
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["/known", "unknown"], None)
        .expect("register");
    // identify tells names with a slash only.
    a.connect_to(&b);
    b.pause();
    let (info, mut near) = a
        .client()
        .open_stream(b.peer_id(), &["/known"])
        .expect("lazily");
    assert_eq!(info.proto, "/known");
    near.write_all(b"early").expect("write");

    // A name that is not known to be spoken waits for the remote's word.
    let mut eager = a.client();
    eager
        .send_raw(&raw::frame(&stream_open(b.peer_id(), &["unknown"])))
        .expect("send");
    eager
        .pipe
        .socket
        .set_timeout(Duration::from_millis(300))
        .expect("set a timeout");
    let waited = eager
        .pipe
        .read_frame()
        .expect_err("an answer from a stopped process");
    assert_eq!(waited.kind(), std::io::ErrorKind::WouldBlock);

    b.resume();
    eager
        .pipe
        .socket
        .set_timeout(PATIENCE)
        .expect("set a timeout");
    let answer: Response = eager.receive().expect("the answer");
    assert_eq!(
        answer.stream_info.expect("a streamInfo part").proto,
        "unknown"
    );
    let mut names = Vec::new();
    for _ in 0..2 {
        let (told, mut far) = handler.accept(PATIENCE).expect("the stream");
        if told.proto == "/known" {
            let mut early = [0; 5];
            far.read_exact(&mut early).expect("the early bytes");
            assert_eq!(&early, b"early");
        }
        names.push(told.proto);
    }
    names.sort();
    assert_eq!(names, ["/known", "unknown"]);
}

#[test]
fn a_handler_registered_after_identify_can_be_reached_at_once() {
    let (a, b) = pair();
    let handler = Handler::unix();
    for round in 0..20 {
        let name = format!("/new/{round}");
        handler
            .register(&mut b.client(), &[&name], None)
            .expect("register");
        let opened = a.client().open_stream(b.peer_id(), &[&name]);
        assert_eq!(opened.expect("open").0.proto, name);
        assert_eq!(handler.accept(PATIENCE).expect("the stream").0.proto, name);
    }
}

#[test]
fn the_librarys_own_protocols_can_be_opened() {
    let (a, b) = pair();
    let (_, mut ping) = a
        .client()
        .open_stream(b.peer_id(), &["/ipfs/ping/1.0.0"])
        .expect("open");
    for round in 0..3_u8 {
        let sent = [round; 32];
        ping.write_all(&sent).expect("write");
        let mut echoed = [0; 32];
        ping.read_exact(&mut echoed).expect("the echo");
        assert_eq!(echoed, sent);
    }
    let (_, identify) = a
        .client()
        .open_stream(b.peer_id(), &["/ipfs/id/1.0.0"])
        .expect("open");
    let message = identify.exchange(b"");
    // One frame: its length, and inside it the agent's name.
    let (len, body) = unsigned_varint::decode::usize(&message).expect("a length");
    assert_eq!(body.len(), len);
    assert!(body.windows(6).any(|bytes| bytes == b"rp2pd/"));
}

#[test]
fn the_clients_time_limit_is_kept() {
    let (a, b) = pair();
    b.pause();
    let body = [
        raw::bytes(1, &b.peer_id().to_bytes()),
        raw::bytes(2, b"slow"),
        raw::int(3, 1),
    ]
    .concat();
    let started = std::time::Instant::now();
    let text = refusal(
        &mut a.client(),
        &[raw::int(1, 2), raw::bytes(3, &body)].concat(),
    );
    let took = started.elapsed();
    b.resume();
    assert!(text.ends_with("context deadline exceeded"), "{text}");
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(5),
        "{took:?}"
    );
}
