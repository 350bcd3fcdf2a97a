//! What is remembered of peers, asked for with PEERSTORE: F10.

use std::slice::from_ref;

use libp2p::{Multiaddr, PeerId};
use prost::Message as _;
use rp2pd::wire::pb::{PeerstoreRequest, PeerstoreResponse, Request, peerstore_request, request};

use super::*;
use crate::support::by_hand::{self, ByHand};
use crate::support::control::typed;
use crate::support::raw;

const WRONG: &str = "addresses that lead to another peer";
const DEAD: &str = "addresses that never led anywhere";

fn ask(daemon: &Daemon, kind: peerstore_request::Type, peer: PeerId) -> Option<PeerstoreResponse> {
    let body = PeerstoreRequest {
        r#type: Some(i64::from(kind as i32)),
        id: Some(peer.to_bytes().into()),
        ..PeerstoreRequest::default()
    };
    let mut request: Request = typed(request::Type::PersistentConnUpgrade);
    request.extension = vec![body.encode_to_vec().into()];
    match daemon.client().ask(&request) {
        Ok(answer) => answer.peer_store,
        Err(text) => {
            assert_eq!(text, format!("peer {peer} not found"));
            None
        }
    }
}

/// The addresses that `daemon` knows of `peer`, none if it does not know it.
fn addresses(daemon: &Daemon, peer: PeerId) -> Vec<Multiaddr> {
    let told = ask(daemon, peerstore_request::Type::GetPeerInfo, peer);
    let info = told.and_then(|told| told.peer);
    let addresses = info.map_or_else(Vec::new, |info| info.addrs);
    addresses
        .iter()
        .map(|addr| Multiaddr::try_from(addr.to_vec()).expect("an address"))
        .collect()
}

fn protocols(daemon: &Daemon, peer: PeerId) -> Option<Vec<String>> {
    let told = ask(daemon, peerstore_request::Type::GetProtocols, peer);
    told.map(|told| crate::support::control::texts(&told.protos))
}

fn closed() -> Multiaddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("addr")
}

#[test]
fn an_address_where_another_peer_answers_is_forgotten() {
    let a = node(&[]);
    let mut before = node(&[]);
    a.connect_to(&before);
    let old = before.peer_id();
    let at = before.addrs()[0].clone();
    before.terminate(PATIENCE);
    let flag = format!("-hostAddrs={at}");
    let after = Launch::new().args([&flag]).spawn();
    assert_ne!(after.peer_id(), old);
    assert!(eventually(PATIENCE, || a.client().list_peers().is_empty()));
    assert_eq!(addresses(&a, old), from_ref(&at), "it may come back");
    let text = a.client().connect_to(old, &[]).expect_err("another peer");
    let mismatch = format!("expected {old}, but remote key matches {}", after.peer_id());
    assert!(text.contains(&mismatch), "{text}");
    assert!(addresses(&a, old).is_empty());
    assert_eq!(a.bites(WRONG), 1);
    // It is not dialed again, and not in the way of the peer's true address.
    let text = a.client().connect_to(old, &[]).expect_err("no address");
    assert!(text.ends_with("no addresses"), "{text}");
    a.client().connect_peer(after.peer_id(), from_ref(&at));
    assert_eq!(addresses(&a, after.peer_id()), from_ref(&at));
    // Whoever names it again gets the same answer, and it is forgotten again.
    let text = a.client().connect_to(old, &[at]).expect_err("another peer");
    assert!(text.contains(&mismatch), "{text}");
    assert!(addresses(&a, old).is_empty());
    assert_eq!(a.bites(WRONG), 2);
}

#[test]
fn an_address_that_leads_nowhere_is_forgotten_one_that_worked_is_kept() {
    let a = node(&[]);
    let stranger = PeerId::random();
    let dead = closed();
    for attempt in 0..3 {
        let named = if attempt == 0 {
            &[dead.clone()][..]
        } else {
            &[]
        };
        let text = a.client().connect_to(stranger, named).expect_err("nobody");
        assert!(text.contains("connection refused"), "{text}");
    }
    assert!(addresses(&a, stranger).is_empty());
    assert_eq!(a.bites(DEAD), 1);
    let text = a.client().connect_to(stranger, &[]).expect_err("nobody");
    assert!(text.ends_with("no addresses"), "{text}");

    let keys = tempfile::tempdir().expect("a directory");
    let key = keys.path().join("key");
    let made = std::process::Command::new(support::daemon::binary_under_test())
        .args(["keygen", "-t=ed25519", "-f"])
        .arg(&key)
        .status();
    assert!(made.expect("run").success());
    let id = format!("-id={}", key.display());
    let mut b = node(&[&id]);
    let (peer, at) = (b.peer_id(), b.addrs()[0].clone());
    a.connect_to(&b);
    b.terminate(PATIENCE);
    assert!(eventually(PATIENCE, || a.client().list_peers().is_empty()));
    for _ in 0..10 {
        a.client().connect_to(peer, &[]).expect_err("it is away");
    }
    assert_eq!(addresses(&a, peer), from_ref(&at));
    // It is back where it was, and is found without being told.
    let b = Launch::new().args([format!("-hostAddrs={at}"), id]).spawn();
    assert_eq!(b.peer_id(), peer);
    a.client().connect_peer(peer, &[]);
    assert_eq!(a.bites(DEAD), 1);
}

/// More than the library reads, in as many parts as Go takes.
#[test]
fn of_a_thousand_addresses_the_one_where_the_peer_is_stays() {
    let a = node(&["-plaintext=true"]);
    let here = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = here.local_addr().expect("an address").port();
    let elsewhere = (0..1000_u32).map(|number| {
        format!(
            "/ip4/127.1.{}.{}/tcp/{port}",
            number / 250,
            1 + number % 250
        )
    });
    let told = elsewhere.chain([format!("/ip4/127.0.0.1/tcp/{port}")]);
    let told = told.map(|text| raw::bytes(2, &text.parse::<Multiaddr>().expect("addr").to_vec()));
    let told: Vec<Vec<u8>> = told.collect();
    let mut peer = ByHand::connect(&a);
    let id = peer.peer_id();
    let key = raw::bytes(1, &peer.key.public().encode_protobuf());
    let (first, second) = told.split_at(600);
    let parts = [[key, first.concat()].concat(), second.concat()];
    assert!(parts[0].len() > 4096, "the library would read it");
    let parts = parts.map(|part| raw::frame(&part)).concat();
    // The library asks, and after it the daemon itself.
    for _ in 0..2 {
        let told = peer.answer_identify(&parts, by_hand::FIN);
        told.expect("a question");
    }
    let here_is = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("addr");
    let known = || addresses(&a, id).contains(&here_is);
    assert!(eventually(PATIENCE, known), "{:?}", addresses(&a, id));
    assert!(addresses(&a, id).len() <= 64);
    drop(peer);
    assert!(eventually(PATIENCE, || a.client().list_peers().is_empty()));
    std::thread::scope(|scope| {
        let dial = scope.spawn(|| a.client().connect_to(id, &[]));
        // Whoever comes and is hung up on has come.
        here.set_nonblocking(true).expect("non-blocking");
        assert!(eventually(PATIENCE, || here.accept().is_ok()), "no dial");
        let text = dial.join().expect("joined").expect_err("nobody there");
        assert!(text.contains("all dials failed"), "{text}");
    });
}

#[test]
fn what_a_peer_spoke_is_known_after_it_has_left() {
    let (a, b) = (node(&[]), node(&[]));
    assert_eq!(protocols(&a, b.peer_id()), None);
    a.connect_to(&b);
    let spoken = protocols(&a, b.peer_id()).expect("a connected peer");
    assert!(spoken.contains(&"/ipfs/id/1.0.0".to_owned()));
    // The other side identifies this one at its own pace.
    let known = || protocols(&b, a.peer_id()).is_some();
    assert!(eventually(PATIENCE, known));
    a.client().disconnect(b.peer_id());
    assert!(a.client().list_peers().is_empty());
    assert_eq!(protocols(&a, b.peer_id()), Some(spoken));
    assert_eq!(addresses(&a, b.peer_id()), b.addrs());
    // The other side was dialed; it knows what identify has told it.
    assert!(eventually(PATIENCE, || b.client().list_peers().is_empty()));
    assert_eq!(addresses(&b, a.peer_id()), a.addrs());
    assert!(protocols(&b, a.peer_id()).is_some());
}
