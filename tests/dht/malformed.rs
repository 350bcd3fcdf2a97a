//! Requests with missing or invalid parameters.

use super::*;

#[test]
fn without_a_dht_nothing_else_is_looked_at() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    for verb in 0..10 {
        assert_eq!(refusal(&mut client, verb, &[]), "DHT not enabled");
    }
    client.send_raw(&raw::frame(&raw::int(1, 4))).expect("send");
    assert_eq!(answer(&mut client), Err("DHT not enabled".to_owned()));
    assert_open(&mut client);
}

#[test]
fn what_is_missing_is_named_as_in_go() {
    let daemon = node();
    let mut client = daemon.client();
    client.send_raw(&raw::frame(&raw::int(1, 4))).expect("send");
    let missing = "Malformed request; missing parameters";
    assert_eq!(answer(&mut client), Err(missing.to_owned()));
    for (verb, field) in [
        (verb::FIND_PEER, "peer"),
        (verb::FIND_PROVIDERS, "cid"),
        (verb::GET_CLOSEST_PEERS, "key"),
        (verb::GET_PUBLIC_KEY, "peer"),
        (verb::GET_VALUE, "key"),
        (verb::SEARCH_VALUE, "key"),
        (verb::PUT_VALUE, "key"),
        (verb::PROVIDE, "cid"),
    ] {
        let expected = format!("Malformed request; missing {field} parameter");
        assert_eq!(refusal(&mut client, verb, &[]), expected);
        assert_open(&mut client);
    }
    assert_eq!(
        refusal(&mut client, verb::PUT_VALUE, &[raw::bytes(field::KEY, b"")]),
        "Malformed request; missing value parameter"
    );
    assert_open(&mut client);
}

#[test]
fn what_nobody_supports_says_so() {
    let daemon = node();
    let mut client = daemon.client();
    let peer = raw::bytes(field::PEER, &PeerId::random().to_bytes());
    for fields in [&[][..], &[peer]] {
        let verb = verb::FIND_PEERS_CONNECTED_TO_PEER;
        assert_eq!(refusal(&mut client, verb, fields), "not supported");
    }
    assert_eq!(refusal(&mut client, 9, &[]), "Unexpected request");
    assert_open(&mut client);
}

#[test]
fn bad_peer_ids_and_cids_get_gos_words() {
    let daemon = node();
    let mut client = daemon.client();
    for verb in [verb::FIND_PEER, verb::GET_PUBLIC_KEY] {
        for (peer, text) in [
            (&b""[..], "multihash too short. must be >= 2 bytes"),
            (
                b"\x12\x20\x01",
                "length greater than remaining number of bytes in buffer",
            ),
            (
                b"\x00\x01ab",
                "multihash length inconsistent: expected 1; got 3",
            ),
        ] {
            let peer = raw::bytes(field::PEER, peer);
            assert_eq!(refusal(&mut client, verb, &[peer]), text);
        }
    }
    for verb in [verb::FIND_PROVIDERS, verb::PROVIDE] {
        for (cid, text) in [
            (
                &b""[..],
                "invalid cid: invalid cid: varints malformed, could not reach the end",
            ),
            (
                b"\x12\x20\x01",
                "invalid cid: invalid cid: not enough bytes for cid v0",
            ),
            (
                b"QmX",
                "invalid cid: invalid cid: expected 1 as the cid version number, got: 81",
            ),
            (
                b"\x01\x55\x00\x01ab",
                "invalid cid: trailing bytes in data buffer passed to cid Cast",
            ),
        ] {
            let cid = raw::bytes(field::CID, cid);
            assert_eq!(refusal(&mut client, verb, &[cid]), text);
        }
    }
    assert_open(&mut client);
}

#[test]
fn bad_records_are_refused_in_gos_words() {
    let daemon = node();
    let mut client = daemon.client();
    let (key, record) = record();
    let (other, _) = super::record();
    let name = [b"/ipns/", &key[4..]].concat();
    let cases: [(&[u8], &[u8], &str); 8] = [
        (b"", b"", "invalid record keytype"),
        (b"/123/456", b"x", "invalid record keytype"),
        (b"key", b"x", "invalid record keytype"),
        (
            b"/pk/a",
            b"x",
            "key did not contain valid multihash: multihash too short. must be >= 2 bytes",
        ),
        (&other, &record, "public key does not match storage key"),
        (
            &key,
            b"garbage",
            "proto: cannot parse invalid wire-format data",
        ),
        (
            &key,
            b"",
            "proto: required field crypto.pb.PublicKey.Type not set",
        ),
        (
            &name,
            b"",
            "record is malformed; record is missing the dag-cbor data field",
        ),
    ];
    for (key, value, text) in cases {
        let fields = [raw::bytes(field::KEY, key), raw::bytes(field::VALUE, value)];
        assert_eq!(refusal(&mut client, verb::PUT_VALUE, &fields), text);
        assert_open(&mut client);
    }
}
