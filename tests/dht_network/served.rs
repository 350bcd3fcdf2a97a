//! Answers to peers, whose requests the test writes by hand.

use std::io::Write;

use libp2p::identity::Keypair;
use rp2pd::wire::frame;

use super::*;
use crate::support::dht::{cid, fresh_public_key_record, ipns_record};
use crate::support::kad::{Kind, Message, Peer, Puppet, ask, open, polite};
use crate::support::{PATIENCE, Pipe, eventually};

/// A server, a puppet that is connected to it, and a stream from the puppet to the server.
fn asked() -> (Daemon, Puppet, Pipe) {
    let (node, puppet) = (server(), Puppet::new(polite));
    puppet.join(&node);
    let pipe = open(&puppet.daemon, node.peer_id()).expect("a stream");
    (node, puppet, pipe)
}

fn ids(peers: &[Peer]) -> Vec<PeerId> {
    let id = |peer: &Peer| PeerId::from_bytes(&peer.id).expect("a peer id");
    peers.iter().map(id).collect()
}

/// A Go node sends this request before it admits a peer to its table.
#[test]
fn a_node_that_is_asked_for_itself_answers_with_itself() {
    let asker = Puppet::new(polite);
    let node = server();
    asker.daemon.connect_to(&node);
    let mut pipe = open(&asker.daemon, node.peer_id()).expect("a stream");
    let own = node.peer_id().to_bytes();
    let answer = ask(&mut pipe, &Message::new(Kind::FindNode, &own)).expect("an answer");
    let found = answer.closer.iter().find(|peer| peer.id == own);
    assert!(found.is_some(), "{answer:?}");
}

/// Peers in client mode are in no routing table, but the nodes that they are connected to know them.
#[test]
fn a_known_peer_is_told_though_it_is_in_no_table() {
    let (node, _puppet, mut pipe) = asked();
    let client = client_mode();
    client.connect_to(&node);
    let wanted = client.peer_id().to_bytes();
    let mut answer = Message::default();
    let told = eventually(PATIENCE, || {
        answer = ask(&mut pipe, &Message::new(Kind::FindNode, &wanted)).expect("an answer");
        answer.closer.iter().any(|peer| peer.id == wanted)
    });
    assert!(told, "{answer:?}");
    let told = answer.closer.iter().find(|peer| peer.id == wanted);
    let addrs: Vec<_> = client.addrs().iter().map(|addr| addr.to_vec()).collect();
    assert_eq!(told.expect("it").addrs, addrs);
}

#[test]
fn closer_peers_are_told_with_every_kind_of_question() {
    let (node, puppet, mut pipe) = asked();
    let other = server();
    join(&node, &other);
    let key = cid(b"key");
    for kind in [Kind::FindNode, Kind::GetProviders, Kind::GetValue] {
        let answer = ask(&mut pipe, &Message::new(kind, &key[2..])).expect("an answer");
        assert_eq!(answer.kind(), kind);
        let told = ids(&answer.closer);
        assert!(told.contains(&other.peer_id()), "{kind:?}: {told:?}");
        // The asker knows itself.
        assert!(!told.contains(&puppet.peer_id()), "{kind:?}: {told:?}");
    }
    let answer = ask(&mut pipe, &Message::new(Kind::Ping, b"")).expect("an answer");
    assert_eq!(answer.kind(), Kind::Ping);
}

#[test]
fn a_record_is_taken_acknowledged_and_given() {
    let (node, puppet, mut pipe) = asked();
    let (key, value) = fresh_public_key_record();
    let answer = ask(&mut pipe, &Message::put(&key, &value)).expect("an acknowledgement");
    assert_eq!(answer.record.expect("the record").value, value);
    let answer = ask(&mut pipe, &Message::new(Kind::GetValue, &key)).expect("an answer");
    assert_eq!(answer.record.expect("a record").value, value);
    assert_eq!(node.client().get_value(&key), Ok(value));
    drop(puppet);
}

/// The stream is reset, as in Go. The protocol has no message for a refusal.
#[test]
fn a_record_that_does_not_belong_there_is_refused() {
    let (node, puppet, _pipe) = asked();
    let (key, _) = fresh_public_key_record();
    let (other_key, other) = fresh_public_key_record();
    let keypair = Keypair::generate_ed25519();
    let (name, newer) = ipns_record(&keypair, b"/ipfs/new", 2);
    let (_, older) = ipns_record(&keypair, b"/ipfs/old", 1);
    let mut stream = open(&puppet.daemon, node.peer_id()).expect("a stream");
    ask(&mut stream, &Message::put(&name, &newer)).expect("an acknowledgement");
    for (message, what) in [
        (Message::put(&key, &other), "another's value"),
        (Message::put(b"/v/x", b"value"), "an unknown namespace"),
        (Message::put(b"", b"value"), "an empty key"),
        (Message::new(Kind::PutValue, &key), "no record"),
        (
            Message::new(Kind::PutValue, &key).with_record(&other_key, &other),
            "two keys",
        ),
        (Message::put(&name, &older), "an old record"),
    ] {
        let mut stream = open(&puppet.daemon, node.peer_id()).expect("a stream");
        let answer = ask(&mut stream, &message);
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    assert!(node.client().get_value(&key).is_err());
    assert!(node.client().get_value(b"/v/x").is_err());
    assert_eq!(node.client().get_value(&name), Ok(newer));
}

#[test]
fn a_provider_speaks_for_itself_alone_and_with_addresses() {
    let (node, puppet, mut pipe) = asked();
    let stranger = server();
    let content = cid(b"content");
    let key = &content[2..];
    let own = Peer::of(&puppet.daemon);
    let silent = Peer {
        addrs: Vec::new(),
        ..own.clone()
    };
    for provider in [Peer::of(&stranger), silent] {
        pipe.write_all(&frame::encode(&Message::provide(key, provider)))
            .expect("announce");
    }
    // Answered in order: the announcements have been seen.
    let Ok(answer) = ask(&mut pipe, &Message::new(Kind::GetProviders, key)) else {
        panic!("a record in vain ends no stream");
    };
    assert_eq!(answer.providers, []);
    pipe.write_all(&frame::encode(&Message::provide(key, own.clone())))
        .expect("announce");
    let answer = ask(&mut pipe, &Message::new(Kind::GetProviders, key)).expect("an answer");
    assert_eq!(ids(&answer.providers), [puppet.peer_id()]);
    assert_eq!(answer.providers[0].addrs, own.addrs);
    let found = node.client().find_providers(&content, None).expect("found");
    assert_eq!(found, [(puppet.peer_id(), puppet.daemon.addrs().to_vec())]);
}

#[test]
fn one_stream_carries_many_questions() {
    let (node, _puppet, mut pipe) = asked();
    let question = Message::new(Kind::FindNode, &node.peer_id().to_bytes());
    // All at once, then the answers.
    let burst = frame::encode(&question).repeat(200);
    pipe.write_all(&burst).expect("ask");
    for _ in 0..200 {
        let answer = crate::support::kad::receive(&mut pipe).expect("an answer");
        assert_eq!(answer.kind(), Kind::FindNode);
    }
}
