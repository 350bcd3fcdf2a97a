//! What is remembered of peers, asked for with PEERSTORE: F10.

use std::slice::from_ref;

use libp2p::{Multiaddr, PeerId};
use prost::Message as _;
use rp2pd::wire::pb::{PeerstoreRequest, PeerstoreResponse, Request, peerstore_request, request};

use super::*;
use crate::support::control::typed;

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
