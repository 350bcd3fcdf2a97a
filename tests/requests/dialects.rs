//! One daemon, three dialects: what type 9 and field 9 mean (COMPATIBILITY.md 4.2, 4.12).

use super::*;
use crate::support::eventually;

/// An exact unix address, as its bytes travel.
const ADDR: &[u8] = b"\x90\x03\x07/tmp/no";

#[test]
fn peerstore_tells_a_peers_protocols() {
    let (a, b) = pair();
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["/mine/1"], None)
        .expect("register");
    let mut client = a.client();
    let known = |client: &mut ControlClient| {
        let answer = ask(client, &peerstore(1, Some(&b.peer_id().to_bytes())));
        support::control::texts(&answer.peer_store.expect("a peerStore part").protos)
    };
    // CONNECT had waited for identify; the new handler follows by push.
    assert!(known(&mut client).contains(&"/ipfs/id/1.0.0".to_owned()));
    assert!(
        eventually(support::PATIENCE, || known(&mut client)
            .contains(&"/mine/1".to_owned())),
        "the handler was never announced"
    );
    let removed = ask(
        &mut b.client(),
        &remove_handler(&handler.addr_bytes(), &["/mine/1"]),
    );
    assert_eq!(removed, Response::default());
    assert!(
        eventually(support::PATIENCE, || !known(&mut client)
            .contains(&"/mine/1".to_owned())),
        "the removal was never announced"
    );
}

#[test]
fn peerstore_tells_a_peers_addresses() {
    let (a, b) = pair();
    let answer = ask(
        &mut a.client(),
        &peerstore(2, Some(&b.peer_id().to_bytes())),
    );
    let peer = answer.peer_store.expect("a peerStore part").peer;
    let peer = peer.expect("a peer part");
    assert_eq!(peer.id[..], b.peer_id().to_bytes());
    let listens_on = b.addrs()[0].to_vec();
    assert!(peer.addrs.iter().any(|addr| addr[..] == listens_on));
}

#[test]
fn peerstore_refuses_with_the_javascript_texts() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let stranger = PeerId::random().to_bytes();
    for kind in [1, 2] {
        assert_eq!(
            refusal(&mut client, &peerstore(kind, None)),
            "Invalid request"
        );
        let text = refusal(&mut client, &peerstore(kind, Some(&stranger)));
        assert!(text.contains("not found"), "{text}");
        assert_eq!(
            refusal(&mut client, &peerstore(kind, Some(&[]))),
            "multihash too short. must be >= 2 bytes"
        );
    }
    for kind in [0, 3, -1, i64::MAX] {
        let text = refusal(&mut client, &peerstore(kind, Some(&stranger)));
        assert_eq!(text, "ERR_INVALID_REQUEST_TYPE", "kind {kind}");
    }
    assert_open(&mut client);
}

#[test]
fn type_9_is_told_apart_by_its_field_9() {
    let daemon = Daemon::spawn(&["-stayAlive"]);
    // Absent: the upgrade. A removal by mistake: Go upgrades.
    let by_mistake = [raw::int(1, 9), raw::bytes(9, &raw::bytes(1, ADDR))].concat();
    for upgrade in [&[8, 9][..], &by_mistake] {
        let mut client = daemon.client();
        assert_eq!(ask(&mut client, upgrade), Response::default());
        let cancel = [raw::bytes(1, &[1; 16]), raw::bytes(5, b"")].concat();
        let remove = [raw::bytes(1, &[2; 16]), raw::bytes(6, b"")].concat();
        let both = [raw::frame(&cancel), raw::frame(&remove)].concat();
        client.send_raw(&both).expect("send");
        let answer = client.pipe.read_frame().expect("a message");
        assert_eq!(answer[..18], raw::bytes(1, &[2; 16]), "of the second one");
    }
    let mut client = daemon.client();
    // Present and empty: what a JavaScript encoder makes of UNSPECIFIED.
    let empty = [raw::int(1, 9), raw::bytes(9, &[])].concat();
    assert_eq!(refusal(&mut client, &empty), "ERR_INVALID_REQUEST_TYPE");
    // The order of the fields makes no difference.
    let reversed = [raw::bytes(9, &raw::int(1, 1)), raw::int(1, 9)].concat();
    assert_eq!(refusal(&mut client, &reversed), "Invalid request");
    assert_open(&mut client);
}

#[test]
fn other_types_do_not_look_at_field_9() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    for body in [&b"\xff\xff\xff"[..], b"", b"\x08\x01"] {
        let payload = [raw::int(1, 0), raw::bytes(9, body)].concat();
        assert!(ask(&mut client, &payload).identify.is_some());
    }
}

#[test]
fn type_10_removes_a_handler_and_never_upgrades() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let text = refusal(&mut client, &remove_handler(ADDR, &["/none"]));
    assert_eq!(text, "handler for protocol /none does not exist");
    // A JavaScript PEERSTORE body under type 10 is undecodable as a removal.
    let payload = [raw::int(1, 10), raw::bytes(9, &raw::int(1, 1))].concat();
    let text = refusal(&mut client, &payload);
    assert!(text.starts_with("Malformed request; "), "{text}");
    assert_closed(&mut client);
}
