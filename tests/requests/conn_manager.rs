//! Which connections stay: TAG_PEER, UNTAG_PEER, TRIM and the trim that nobody asks for.

use std::time::Duration;

use rp2pd::wire::pb::ConnManagerRequest;
use rp2pd::wire::pb::conn_manager_request::Type;
use rp2pd::wire::pb::request::Type as Verb;

use super::*;
use crate::support::control::typed;
use crate::support::eventually;

/// Longer than the ten seconds between looks at the number of connections.
const TRIM_PATIENCE: Duration = Duration::from_secs(40);

fn manage(kind: Type, peer: &[u8], tag: &str, weight: i64) -> rp2pd::wire::pb::Request {
    rp2pd::wire::pb::Request {
        conn_manager: Some(ConnManagerRequest {
            r#type: Some(i64::from(i32::from(kind))),
            peer: Some(peer.to_vec().into()),
            tag: Some(tag.to_owned().into()),
            weight: Some(weight),
        }),
        ..typed(Verb::Connmanager)
    }
}

fn tag(daemon: &Daemon, peer: PeerId, tag: &str, weight: i64) {
    let request = manage(Type::TagPeer, &peer.to_bytes(), tag, weight);
    daemon.client().ask(&request).expect("TAG_PEER");
}

fn untag(daemon: &Daemon, peer: PeerId, tag: &str) {
    let request = manage(Type::UntagPeer, &peer.to_bytes(), tag, 0);
    daemon.client().ask(&request).expect("UNTAG_PEER");
}

fn trim(daemon: &Daemon) -> Vec<PeerId> {
    let mut client = daemon.client();
    client.ask(&manage(Type::Trim, b"", "", 0)).expect("TRIM");
    peers(&mut client)
}

fn peers(client: &mut ControlClient) -> Vec<PeerId> {
    client.list_peers().into_iter().map(|(id, _)| id).collect()
}

/// A daemon with these marks, connected to `count` others.
fn hub<const N: usize>(flags: &[&str]) -> (Daemon, [Daemon; N]) {
    let mut all = vec!["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-connManager"];
    all.extend(flags);
    let hub = Daemon::spawn(&all);
    let others = std::array::from_fn(|_| node());
    for other in &others {
        hub.connect_to(other);
    }
    (hub, others)
}

#[test]
fn trim_leaves_those_worth_most() {
    let (hub, others) = hub::<4>(&["-connLo=2", "-connHi=9", "-connGrace=0"]);
    let [a, b, c, d] = others.each_ref().map(Daemon::peer_id);
    tag(&hub, a, "one", 3);
    tag(&hub, a, "two", -2);
    tag(&hub, b, "one", 2);
    tag(&hub, b, "one", 5);
    tag(&hub, c, "one", 9);
    untag(&hub, c, "one");
    untag(&hub, c, "never given");
    tag(&hub, d, "one", -7);
    let mut left = trim(&hub);
    left.sort_unstable();
    let mut expected = [a, b];
    expected.sort_unstable();
    assert_eq!(left, expected);
    // The others have seen their connection end.
    for gone in &others[2..] {
        assert!(eventually(TRIM_PATIENCE, || gone
            .client()
            .list_peers()
            .is_empty()));
    }
    assert_eq!(trim(&hub).len(), 2, "at the low mark nothing is trimmed");
}

#[test]
fn tags_go_with_the_connection() {
    let (hub, others) = hub::<2>(&["-connLo=1", "-connHi=9", "-connGrace=0"]);
    let [a, b] = others.each_ref().map(Daemon::peer_id);
    tag(&hub, a, "one", 9);
    hub.client().disconnect(a);
    hub.connect_to(&others[0]);
    tag(&hub, b, "one", 1);
    assert_eq!(trim(&hub), [b]);
}

#[test]
fn the_young_are_spared() {
    let (hub, _others) = hub::<3>(&["-connLo=1", "-connHi=2", "-connGrace=10m"]);
    assert_eq!(trim(&hub).len(), 3);
}

#[test]
fn marks_of_zero_trim_nothing() {
    let (hub, _others) = hub::<3>(&["-connLo=0", "-connHi=2", "-connGrace=0"]);
    assert_eq!(trim(&hub).len(), 3);
}

#[test]
fn beyond_the_high_mark_nobody_has_to_ask() {
    let (hub, others) = hub::<3>(&["-connLo=1", "-connHi=2", "-connGrace=0"]);
    let best = others[1].peer_id();
    tag(&hub, best, "one", 1);
    let mut client = hub.client();
    assert!(eventually(TRIM_PATIENCE, || peers(&mut client) == [best]));
}

#[test]
fn anybody_may_be_tagged_and_bad_requests_say_why() {
    let daemon = node();
    tag(&daemon, PeerId::random(), "unknown", 1);
    tag(&daemon, daemon.peer_id(), "self", i64::MIN);
    tag(&daemon, daemon.peer_id(), "self too", i64::MIN);
    assert_eq!(trim(&daemon), []);
    let mut client = daemon.client();
    let some = PeerId::random().to_bytes();
    for kind in [Type::TagPeer, Type::UntagPeer] {
        for (peer, tag, text) in [
            (&some[..], "", "Malformed request; missing tag parameter"),
            (b"", "tag", "multihash too short. must be >= 2 bytes"),
        ] {
            let answer = client.ask(&manage(kind, peer, tag, 1));
            assert_eq!(answer.unwrap_err(), text);
        }
    }
    let missing = raw::int(1, 6);
    assert_eq!(
        refusal(&mut client, &missing),
        "Malformed request; missing parameters"
    );
    let unknown = [raw::int(1, 6), raw::bytes(6, &raw::int(1, 3))].concat();
    assert_eq!(refusal(&mut client, &unknown), "Unexpected request");
    assert_open(&mut client);
}

#[test]
fn tags_are_bounded() {
    let daemon = node();
    let mut client = daemon.client();
    let peer = PeerId::random().to_bytes();
    let long = manage(Type::TagPeer, &peer, &"x".repeat(257), 1);
    assert_eq!(
        client.ask(&long).unwrap_err(),
        "tag must be at most 256 bytes long"
    );
    for n in 0..64 {
        let request = manage(Type::TagPeer, &peer, &n.to_string(), 1);
        client.ask(&request).expect("TAG_PEER");
    }
    let one_more = manage(Type::TagPeer, &peer, "one more", 1);
    assert_eq!(client.ask(&one_more).unwrap_err(), "too many tags");
    let again = manage(Type::TagPeer, &peer, "7", 2);
    assert!(client.ask(&again).is_ok());
    // Peers that nobody is connected to make room for one another.
    for _ in 0..9000 {
        let peer = PeerId::random().to_bytes();
        let request = manage(Type::TagPeer, &peer, "tag", 1);
        client.ask(&request).expect("TAG_PEER");
    }
}
