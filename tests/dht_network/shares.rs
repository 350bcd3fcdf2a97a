//! Stores and answers are shared fairly among peers.

use std::collections::HashSet;
use std::io::Write;

use libp2p::Multiaddr;
use prost::Message as _;
use rp2pd::wire::frame;

use super::*;
use crate::support::by_hand::{ByHand, DATA, MULTISTREAM, messages};
use crate::support::dht::{cid, fresh_public_key_record};
use crate::support::kad::{
    Kind, Message, PROTOCOL, Peer, Puppet, Reply, admitted, ask, open, polite,
};
use crate::support::{Pipe, Random};

/// Sends announcements and waits until the daemon has processed them.
fn announce(pipe: &mut Pipe, announcements: &[Message]) {
    for burst in announcements.chunks(1000) {
        let burst: Vec<u8> = burst.iter().flat_map(frame::encode).collect();
        pipe.write_all(&burst).expect("announce");
    }
    ask(pipe, &Message::new(Kind::Ping, b"")).expect("an answer");
}

fn ids(answer: &Message) -> HashSet<PeerId> {
    let id = |peer: &Peer| PeerId::from_bytes(&peer.id).expect("a peer id");
    answer.providers.iter().map(id).collect()
}

/// The announcements are more than the store's 64 MiB can hold.
#[test]
fn one_peer_does_not_flush_the_providers_of_others() {
    const MANY: usize = 110_000;
    let node = server();
    let [honest, greedy] = [Puppet::new(polite), Puppet::new(polite)];
    for puppet in [&honest, &greedy] {
        puppet.join(&node);
    }
    let mut random = Random::new("keys");
    let mut keys = |count: usize| -> Vec<Vec<u8>> {
        let key = |_| [&[0x12, 0x20], random.bytes(32).as_slice()].concat();
        (0..count).map(key).collect()
    };
    let (theirs, others) = (keys(100), keys(MANY));
    let announcements = |puppet: &Puppet, keys: &[Vec<u8>]| -> Vec<Message> {
        let own = Peer::of(&puppet.daemon);
        let provide = |key: &Vec<u8>| Message::provide(key, own.clone());
        keys.iter().map(provide).collect()
    };
    let mut asker = open(&honest.daemon, node.peer_id()).expect("a stream");
    announce(&mut asker, &announcements(&honest, &theirs));
    let mut flood = open(&greedy.daemon, node.peer_id()).expect("a stream");
    announce(&mut flood, &announcements(&greedy, &others));
    let mut held = |keys: &[Vec<u8>], by: &Puppet| {
        let holds = |key: &&Vec<u8>| {
            let answer = ask(&mut asker, &Message::new(Kind::GetProviders, key));
            ids(&answer.expect("an answer")).contains(&by.peer_id())
        };
        keys.iter().filter(holds).count()
    };
    assert_eq!(held(&theirs, &honest), theirs.len());
    // The store was full, and who filled it made room.
    assert_eq!(held(&others[..100], &greedy), 0);
    assert_eq!(held(&others[MANY - 100..], &greedy), 100);
}

/// Connects a peer with a new id that announces `key`.
fn announce_by_hand(node: &Daemon, key: &[u8]) -> ByHand {
    let mut peer = ByHand::connect(node);
    let nowhere: Multiaddr = "/ip4/127.0.0.1/tcp/1025".parse().expect("an address");
    let mut body = messages(&[MULTISTREAM, PROTOCOL]);
    let own = Peer::new(peer.peer_id(), &[nowhere]);
    body.extend(frame::encode(&Message::provide(key, own)));
    body.extend(frame::encode(&Message::new(Kind::Ping, b"pong")));
    let stream = peer.open(&body).expect("open");
    loop {
        let frame = peer.receive().expect("an answer");
        let answered = frame.body.windows(4).any(|part| part == b"pong");
        if frame.kind == DATA && frame.stream == stream && answered {
            return peer;
        }
    }
}

/// All ids come from one address, which is the worst case: each address prefix has its turn.
#[test]
fn many_ids_hide_no_provider() {
    const IDS: usize = 400;
    let node = launch("-dhtServer").args(["-plaintext=true"]).spawn();
    let honest = Puppet::new(polite);
    honest.join(&node);
    let content = cid(b"content");
    let key = &content[2..];
    for _ in 0..IDS / 2 {
        drop(announce_by_hand(&node, key));
    }
    let mut pipe = open(&honest.daemon, node.peer_id()).expect("a stream");
    let own = Peer::of(&honest.daemon);
    announce(&mut pipe, &[Message::provide(key, own)]);
    for _ in 0..IDS / 2 {
        drop(announce_by_hand(&node, key));
    }
    let question = Message::new(Kind::GetProviders, key);
    let (mut all, mut told) = (HashSet::new(), 0);
    for _ in 0..60 {
        let answer = ask(&mut pipe, &question).expect("an answer");
        // What rust-libp2p reads.
        assert!(answer.encoded_len() <= 16 << 10, "{}", answer.encoded_len());
        let ids = ids(&answer);
        assert!(ids.len() < IDS, "there is room for all: no attack");
        told += usize::from(ids.contains(&honest.peer_id()));
        all.extend(ids);
    }
    println!(
        "{told} of 60 answers name it, {} providers in all",
        all.len()
    );
    assert!(told >= 5, "{told} of 60 answers name it");
    assert_eq!(all.len(), IDS + 1, "some are never told");
}

/// A limit of the reader is no fault of the peer that answered.
#[test]
fn an_answer_that_is_too_large_costs_nobody_its_place() {
    let node = server();
    let large = |own: &Peer, asked: &Message| {
        let mut reply = asked.reply();
        if asked.kind() == Kind::GetProviders {
            let padded = Peer {
                addrs: vec![vec![0; 4096]; 1050],
                ..own.clone()
            };
            reply.providers.push(padded);
            assert!(reply.encoded_len() > 4_200_000);
        }
        Reply::Message(reply)
    };
    let puppet = Puppet::new(admitted(large));
    puppet.join(&node);
    for round in 0..3 {
        let found = node.client().find_providers(&cid(b"content"), None);
        assert_eq!(found, Ok(Vec::new()));
        let asked = puppet.asked();
        let asked = asked
            .iter()
            .filter(|asked| asked.kind() == Kind::GetProviders);
        assert!(asked.count() > round, "it was not asked");
        assert!(table(&node).contains(&puppet.peer_id()), "dropped");
    }
    // It is still good for other questions.
    let closest = node.client().closest_peers(b"key");
    assert_eq!(closest, Ok(vec![puppet.peer_id()]));
}

/// Nobody reads this field, so its encoding must not matter.
#[test]
fn a_time_that_is_no_text_costs_nothing() {
    let (key, value) = fresh_public_key_record();
    let received = b"\xff\xfe\x80 o'clock".to_vec();
    let stamped = {
        let (key, value) = (key.clone(), value.clone());
        move |asked: &Message| {
            let mut message = asked.reply().with_record(&key, &value);
            message.record.as_mut().expect("a record").received = received.clone();
            message
        }
    };
    let answer = {
        let stamped = stamped.clone();
        admitted(move |_, asked| match asked.kind() {
            Kind::GetValue => Reply::Message(stamped(asked)),
            _ => Reply::Message(asked.reply()),
        })
    };
    let [node, other] = servers();
    let puppet = Puppet::new(answer);
    puppet.join(&node);
    assert_eq!(node.client().get_value(&key).as_ref(), Ok(&value));
    assert!(puppet.was_asked(Kind::GetValue));
    // The same in a request.
    let put = stamped(&Message::new(Kind::PutValue, &key));
    puppet.daemon.connect_to(&other);
    let mut pipe = open(&puppet.daemon, other.peer_id()).expect("a stream");
    let answer = ask(&mut pipe, &put).expect("an acknowledgement");
    assert_eq!(answer.record.expect("the record").value, value);
    assert_eq!(other.client().get_value(&key), Ok(value));
}
