//! A node that knows no other.

use super::*;

const EMPTY_TABLE: &str = "failed to find any peer in table";
const NOT_FOUND: &str = "routing: not found";

#[test]
fn nobody_is_found() {
    let daemon = node();
    let mut client = daemon.client();
    for peer in [PeerId::random(), daemon.peer_id()] {
        let peer = raw::bytes(field::PEER, &peer.to_bytes());
        let text = refusal(&mut client, verb::FIND_PEER, &[peer]);
        assert_eq!(text, EMPTY_TABLE);
    }
    let key = raw::bytes(field::KEY, b"key");
    let text = refusal(&mut client, verb::GET_CLOSEST_PEERS, &[key]);
    assert_eq!(text, EMPTY_TABLE);
    let empty = raw::bytes(field::KEY, b"");
    let text = refusal(&mut client, verb::GET_CLOSEST_PEERS, &[empty]);
    assert_eq!(text, "can't lookup empty key");
    let cid = raw::bytes(field::CID, &cid("nobody has it"));
    assert_eq!(
        stream(&mut client, verb::FIND_PROVIDERS, &[cid]),
        Ok(vec![])
    );
    assert_open(&mut client);
}

#[test]
fn no_value_is_found() {
    let daemon = node();
    let mut client = daemon.client();
    let (key, _) = record();
    for key in [&key[..], b"/123/456", b"key", b""] {
        let key = raw::bytes(field::KEY, key);
        let text = refusal(&mut client, verb::GET_VALUE, from_ref(&key));
        assert_eq!(text, NOT_FOUND);
        let found = stream(&mut client, verb::SEARCH_VALUE, &[key]);
        assert_eq!(found, Ok(vec![]));
    }
    assert_open(&mut client);
}

#[test]
fn keys_that_ids_contain_need_nobody() {
    let daemon = node();
    let mut client = daemon.client();
    let public = Keypair::generate_ed25519().public();
    let peer = raw::bytes(field::PEER, &public.to_peer_id().to_bytes());
    let found = ask(&mut client, verb::GET_PUBLIC_KEY, &[peer]).expect("the key");
    assert_eq!(value(found), public.encode_protobuf());
    let own = raw::bytes(field::PEER, &daemon.peer_id().to_bytes());
    let found = ask(&mut client, verb::GET_PUBLIC_KEY, &[own]).expect("the own key");
    assert_eq!(value(found), daemon.peer_id().to_bytes()[2..]);
    let hashed = Keypair::generate_ecdsa().public().to_peer_id();
    let hashed = raw::bytes(field::PEER, &hashed.to_bytes());
    let text = refusal(&mut client, verb::GET_PUBLIC_KEY, &[hashed]);
    assert_eq!(text, NOT_FOUND);
}

#[test]
fn what_is_stored_is_kept_here() {
    let daemon = node();
    let mut client = daemon.client();
    let (key, record) = record();
    let key = raw::bytes(field::KEY, &key);
    let fields = [key.clone(), raw::bytes(field::VALUE, &record)];
    let text = refusal(&mut client, verb::PUT_VALUE, &fields);
    assert_eq!(text, EMPTY_TABLE);
    let found = ask(&mut client, verb::GET_VALUE, from_ref(&key)).expect("the value");
    assert_eq!(value(found), record);
    let found = stream(&mut client, verb::SEARCH_VALUE, &[key]).expect("the value");
    let [found] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(found.value.as_deref(), Some(&record[..]));

    let cid = raw::bytes(field::CID, &cid("mine"));
    let text = refusal(&mut client, verb::PROVIDE, from_ref(&cid));
    assert_eq!(text, EMPTY_TABLE);
    let found = stream(&mut client, verb::FIND_PROVIDERS, &[cid]).expect("this node");
    let [
        DhtResponse {
            peer: Some(own), ..
        },
    ] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!(peer_of(own), daemon.peer_id());
    let addrs: Vec<&[u8]> = own.addrs.iter().map(AsRef::as_ref).collect();
    let known: Vec<Vec<u8>> = daemon.addrs().iter().map(|addr| addr.to_vec()).collect();
    assert_eq!(addrs, known);
}

/// An IPNS record with a lower sequence number does not replace one with a higher number.
#[test]
fn a_newer_record_stays() {
    let daemon = node();
    let mut client = daemon.client();
    let (key, older, newer) = pointers();
    let put = |client: &mut ControlClient, value: &[u8]| {
        let fields = [
            raw::bytes(field::KEY, &key),
            raw::bytes(field::VALUE, value),
        ];
        refusal(client, verb::PUT_VALUE, &fields)
    };
    assert_eq!(put(&mut client, &older), EMPTY_TABLE);
    assert_eq!(put(&mut client, &newer), EMPTY_TABLE);
    assert_eq!(
        put(&mut client, &older),
        "can't replace a newer value with an older value"
    );
    assert_eq!(put(&mut client, &newer), EMPTY_TABLE);
    let key = raw::bytes(field::KEY, &key);
    let found = ask(&mut client, verb::GET_VALUE, &[key]).expect("the value");
    assert_eq!(value(found), newer);
}

/// An IPNS name and two of its records, made by Go.
fn pointers() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let base64 = |text: &str| multibase::Base::Base64.decode(text).expect("base64");
    let line = include_str!("../../src/dht/record/go.tsv")
        .lines()
        .find_map(|line| line.strip_prefix("select\thigher\t"))
        .expect("records");
    let columns: Vec<&str> = line.split('\t').collect();
    let (older, newer) = columns[1].split_once(',').expect("two records");
    (base64(columns[0]), base64(older), base64(newer))
}

#[test]
fn further_namespaces_take_anything() {
    let daemon = Daemon::spawn(&[
        "-dhtServer",
        "-dhtNamespace=a,test",
        "-hostAddrs=/ip4/127.0.0.1/tcp/0",
    ]);
    let mut client = daemon.client();
    let key = raw::bytes(field::KEY, b"/test/key");
    for content in [&b"one"[..], b"", &[7; 1 << 20]] {
        let fields = [key.clone(), raw::bytes(field::VALUE, content)];
        let text = refusal(&mut client, verb::PUT_VALUE, &fields);
        assert_eq!(text, EMPTY_TABLE);
        let found = ask(&mut client, verb::GET_VALUE, from_ref(&key)).expect("the value");
        assert_eq!(value(found), content);
    }
    let other = [
        raw::bytes(field::KEY, b"/other/key"),
        raw::bytes(field::VALUE, b""),
    ];
    let text = refusal(&mut client, verb::PUT_VALUE, &other);
    assert_eq!(text, "invalid record keytype");
}
