//! What is no request, and what only looks like none (COMPATIBILITY.md 3.1, 3.3, 4.3).

use super::*;
use crate::support::Random;

#[test]
fn bytes_that_are_no_request_get_a_reason_and_the_end() {
    let daemon = Daemon::spawn(&[]);
    let wrong_wire_type = raw::bytes(1, b"0");
    let cut_field = [raw::int(1, 0), vec![0x12, 5, 1]].concat();
    let group = [raw::int(1, 0), vec![0x13]].concat();
    let field_zero = [raw::int(1, 0), vec![0x00, 0x00]].concat();
    let no_type = raw::bytes(2, &raw::bytes(1, b"x"));
    let bad_connect = [raw::int(1, 1), raw::bytes(2, &raw::int(1, 7))].concat();
    let no_peer = [raw::int(1, 1), raw::bytes(2, &[])].concat();
    let cases: [(&str, &[u8]); 8] = [
        ("empty", &[]),
        ("wrong wire type", &wrong_wire_type),
        ("cut field", &cut_field),
        ("unended group", &group),
        ("field 0", &field_zero),
        ("no type", &no_type),
        ("wrong type inside", &bad_connect),
        ("required field missing", &no_peer),
    ];
    for (what, payload) in cases {
        let mut client = daemon.client();
        let text = refusal(&mut client, payload);
        assert!(text.starts_with("Malformed request; "), "{what}: {text}");
        assert_closed(&mut client);
    }
}

#[test]
fn what_follows_an_undecodable_frame_is_not_obeyed() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    client.send_raw(&[0, 2, 8, 0, 2, 8, 0]).expect("send");
    let answer: Response = client.receive().expect("an answer");
    error_text(&answer);
    assert_closed(&mut client);
}

#[test]
fn an_unknown_type_gets_a_reason_and_the_connection_stays() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    for kind in [11, 99, i64::from(i32::MAX) + 1, -1, i64::MIN, i64::MAX] {
        let text = refusal(&mut client, &raw::int(1, kind));
        assert_eq!(text, format!("Unexpected request; unknown type {kind}"));
        assert_open(&mut client);
    }
}

#[test]
fn a_missing_sub_message_is_named_as_in_go() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    for kind in [1, 2, 3, 6, 7, 10] {
        let text = refusal(&mut client, &raw::int(1, kind));
        assert_eq!(text, "Malformed request; missing parameters", "type {kind}");
        assert_open(&mut client);
    }
}

#[test]
fn features_that_are_off_say_so_before_they_look_at_parameters() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    for (kind, field, word) in [(4, 5, "DHT"), (8, 8, "PubSub")] {
        for body in [Vec::new(), raw::bytes(field, &raw::int(1, 0))] {
            let payload = [raw::int(1, kind), body].concat();
            let text = refusal(&mut client, &payload);
            assert_eq!(text, format!("{word} not enabled"));
            assert_open(&mut client);
        }
    }
}

#[test]
fn bad_peer_ids_get_gos_words_and_the_connection_stays() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let short = "multihash too short. must be >= 2 bytes";
    let truncated = "length greater than remaining number of bytes in buffer";
    let whole = PeerId::random().to_bytes();
    let cases: [(&[u8], &str); 4] = [
        (&[], short),
        (&[0x12], short),
        (&[0x12, 0x20, 1, 2], truncated),
        (&whole[..whole.len() - 1], truncated),
    ];
    for (id, expected) in cases {
        assert_eq!(refusal(&mut client, &connect(id, &[], None)), expected);
        let open = [raw::int(1, 2), raw::bytes(3, &raw::bytes(1, id))].concat();
        assert_eq!(refusal(&mut client, &open), expected);
        let disconnect = [raw::int(1, 7), raw::bytes(7, &raw::bytes(1, id))].concat();
        assert_eq!(refusal(&mut client, &disconnect), expected);
    }
    assert_open(&mut client);
}

#[test]
fn bad_addresses_get_gos_words_and_the_connection_stays() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let peer = PeerId::random().to_bytes();
    let cases: [(&[u8], &str); 2] = [
        (&[], "empty multiaddr"),
        (&[0xff, 0xff], "varints malformed, could not reach the end"),
    ];
    for (addr, expected) in cases {
        assert_eq!(
            refusal(&mut client, &connect(&peer, &[addr], None)),
            expected
        );
        let handler = [raw::int(1, 3), raw::bytes(4, &raw::bytes(1, addr))].concat();
        assert_eq!(refusal(&mut client, &handler), expected);
        assert_eq!(
            refusal(&mut client, &remove_handler(addr, &["/x"])),
            expected
        );
    }
    assert_open(&mut client);
}

#[test]
fn fields_may_be_unknown_repeated_split_and_in_any_order() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let (first, second) = (PeerId::random(), PeerId::random());
    let unknown = [
        raw::int(77, -1),
        raw::bytes(1000, b"later"),
        [raw::varint(50 << 3 | 1), vec![0; 8]].concat(),
        [raw::varint(51 << 3 | 5), vec![0; 4]].concat(),
    ]
    .concat();
    let no_addresses =
        |peer: PeerId| format!("failed to dial: failed to dial {peer}: no addresses");

    // Unknown fields outside and inside, the type last.
    let inside = [unknown.clone(), raw::bytes(1, &first.to_bytes())].concat();
    let payload = [unknown.clone(), raw::bytes(2, &inside), raw::int(1, 1)].concat();
    assert_eq!(refusal(&mut client, &payload), no_addresses(first));

    // Of a repeated singular field the last counts: the type, and the peer.
    let inside = [
        raw::bytes(1, &first.to_bytes()),
        raw::bytes(1, &second.to_bytes()),
    ]
    .concat();
    let payload = [raw::int(1, 5), raw::bytes(2, &inside), raw::int(1, 1)].concat();
    assert_eq!(refusal(&mut client, &payload), no_addresses(second));

    // A sub-message in two pieces is their merger: the address from one, the peer from the
    // other.
    let port = closed_port();
    let addr = maddr(&format!("/ip4/127.0.0.1/tcp/{port}"));
    let payload = [
        raw::bytes(2, &raw::bytes(2, &addr)),
        raw::int(1, 1),
        raw::bytes(2, &raw::bytes(1, &first.to_bytes())),
    ]
    .concat();
    let text = refusal(&mut client, &payload);
    assert!(text.contains(&first.to_base58()), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");

    // The same for the field that two dialects share.
    let handler = Handler::unix();
    handler
        .register(&mut client, &["/split"], None)
        .expect("register");
    let payload = [
        raw::bytes(9, &raw::bytes(2, b"/split")),
        raw::int(1, 10),
        raw::bytes(9, &raw::bytes(1, &handler.addr_bytes())),
    ]
    .concat();
    assert_eq!(ask(&mut client, &payload), Response::default());

    // Requests without parameters do not look at those that come along.
    let payload = [raw::int(1, 0), raw::bytes(7, &raw::bytes(1, b"?"))].concat();
    assert!(ask(&mut client, &payload).identify.is_some());
}

#[test]
fn mutilated_requests_never_hurt_other_clients() {
    let daemon = Daemon::spawn(&["-stayAlive"]);
    let mut other = daemon.client();
    let mut random = Random::new("mutilated_requests_never_hurt_other_clients");
    let peer = PeerId::random();
    let models = [
        connect(&peer.to_bytes(), &[&maddr("/ip4/127.0.0.1/tcp/0")], Some(1)),
        stream_open(peer, &["/a", "b"]),
        remove_handler(b"\x90\x03\x02/x", &["/a"]),
        peerstore(1, Some(&peer.to_bytes())),
    ];
    let mut refused = 0;
    for round in 0..1000 {
        let mut payload = models[round % models.len()].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(payload.len());
            payload[at] = random.bytes(1)[0];
        }
        payload.truncate(1 + random.below(payload.len()));
        let mut client = daemon.client();
        client.send_raw(&raw::frame(&payload)).expect("send");
        // Whatever it has become, it is answered.
        let answer: Response = client.receive().unwrap_or_else(|error| {
            panic!("{payload:02x?} got no answer: {error}");
        });
        refused += usize::from(answer.r#type() == response::Type::Error);
        assert_open(&mut other);
    }
    assert!(refused > 100, "only {refused} of 1,000 were bad");
}
