//! Peers that lie, flood or break the protocol. The node's memory stays bounded, and it still
//! finds what honest peers have (SECURITY.md 2).

use std::io::Write;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use rp2pd::wire::frame;

use super::*;
use crate::support::dht::{NOT_FOUND, cid, fresh_public_key_record};
use crate::support::kad::{Kind, Message, Peer, Puppet, Reply, admitted, ask, open, polite};
use crate::support::{PATIENCE, Random, eventually, raw};

/// Most that the memory of a node may grow during one of these tests, in KiB.
const ROOM: u64 = 64 << 10;

/// Longest time of a request among peers that misbehave. Without a bound it could take a minute.
const SOON: Duration = Duration::from_secs(15);

/// Tests a node that is connected to some puppets and to an honest neighbour, which knows another
/// node. Every request must succeed within [`SOON`], and memory must grow by less than [`ROOM`].
fn withstands(
    puppets: usize,
    answer: impl Fn(&Peer, &Message) -> Reply + Clone + Send + Sync + 'static,
) {
    let [node, neighbour, far] = row();
    let puppets: Vec<_> = (0..puppets)
        .map(|_| {
            let puppet = Puppet::new(admitted(answer.clone()));
            puppet.join(&node);
            puppet
        })
        .collect();
    let before = node.rss_kib();
    let content = cid(b"honest");
    let (key, value) = fresh_public_key_record();
    let timed = |what: &str, ask: &dyn Fn()| {
        let begun = Instant::now();
        ask();
        assert!(begun.elapsed() < SOON, "{what} took {:?}", begun.elapsed());
    };
    timed("PROVIDE", &|| {
        far.client().provide(&content).expect("PROVIDE")
    });
    timed("PUT_VALUE", &|| {
        far.client().put_value(&key, &value).expect("PUT_VALUE")
    });
    timed("FIND_PEER", &|| {
        let (peer, _) = node.client().find_peer(far.peer_id()).expect("FIND_PEER");
        assert_eq!(peer, far.peer_id());
    });
    timed("FIND_PROVIDERS", &|| {
        let found = node
            .client()
            .find_providers(&content, Some(20))
            .expect("found");
        assert!(found.len() <= 20);
        assert!(
            found.contains(&(far.peer_id(), far.addrs().to_vec())),
            "{found:?}"
        );
    });
    timed("GET_VALUE", &|| {
        assert_eq!(node.client().get_value(&key).as_ref(), Ok(&value))
    });
    timed("GET_CLOSEST_PEERS", &|| {
        let found = node.client().closest_peers(b"key").expect("closest");
        assert!(found.len() <= 20);
        let mut once = found.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), found.len(), "somebody twice");
        assert!(found.contains(&neighbour.peer_id()), "{found:?}");
        assert!(!found.contains(&node.peer_id()), "oneself");
    });
    timed("a lookup in vain", &|| {
        let nobody = node.client().find_peer(PeerId::random());
        assert_eq!(nobody, Err(NOT_FOUND.into()));
    });
    timed("the neighbour", &|| {
        neighbour
            .client()
            .find_peer(node.peer_id())
            .expect("FIND_PEER");
    });
    for puppet in &puppets {
        assert!(!puppet.asked().is_empty(), "a puppet was left alone");
    }
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < ROOM, "{grown} KiB more than before");
}

#[test]
fn peers_that_answer_garbage() {
    let mut random = Random::new("garbage");
    let noise = random.bytes(4096);
    withstands(3, move |_, asked| {
        Reply::Raw(match asked.key.first().map_or(0, |byte| byte % 4) {
            0 => noise.clone(),
            1 => raw::frame(&noise[..100]),
            // A varint without an end.
            2 => vec![0xff; 64],
            // An answer to another question, with fields of the wrong type.
            _ => raw::frame(&[raw::int(8, 1), raw::bytes(1, b"x")].concat()),
        })
    });
}

#[test]
fn peers_that_announce_more_than_they_may_send() {
    withstands(3, |_, asked| {
        let length = [1_u64 << 62, 5 << 20, 4 << 20][asked.key.len() % 3];
        Reply::Raw([raw::varint(length), vec![0x22; 200_000]].concat())
    });
}

#[test]
fn peers_that_know_only_themselves() {
    withstands(3, polite);
}

#[test]
fn peers_that_name_the_asker() {
    let named = |_: &Peer, asked: &Message| {
        let mut reply = asked.reply();
        let own: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        // The target of every FIND_NODE, and of those for itself the asker.
        if let Ok(target) = PeerId::from_bytes(&asked.key) {
            reply.closer = vec![Peer::new(target, &[own]); 100];
        }
        Reply::Message(reply)
    };
    let [node, neighbour] = star();
    let puppet = Puppet::new(admitted(named));
    puppet.join(&node);
    let found = node
        .client()
        .closest_peers(&node.peer_id().to_bytes())
        .expect("closest");
    assert!(!found.contains(&node.peer_id()), "oneself");
    assert!(found.contains(&neighbour.peer_id()));
    assert_eq!(node.client().list_peers().len(), 2);
}

#[test]
fn peers_with_ten_thousand_addresses_each() {
    withstands(2, |own, asked| {
        let mut reply = asked.reply();
        let addrs: Vec<Multiaddr> = (0..10_000_u16)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                format!("/ip4/127.1.{high}.{low}/tcp/9")
                    .parse()
                    .expect("an address")
            })
            .collect();
        reply.closer.push(own.clone());
        for _ in 0..10 {
            reply.closer.push(Peer::new(PeerId::random(), &addrs));
        }
        Reply::Message(reply)
    });
}

#[test]
fn peers_that_invent_ten_thousand_others() {
    withstands(2, |own, asked| {
        let mut reply = asked.reply();
        reply.closer.push(own.clone());
        let nowhere: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().expect("an address");
        let invented = || Peer::new(PeerId::random(), std::slice::from_ref(&nowhere));
        reply.closer.extend((0..10_000).map(|_| invented()));
        if asked.kind() == Kind::GetProviders {
            reply.providers.extend((0..10_000).map(|_| invented()));
            // Else the honest provider is not among the twenty asked for.
            reply.providers.truncate(5);
        }
        Reply::Message(reply)
    });
}

#[test]
fn peers_with_ids_and_addresses_that_are_none() {
    withstands(2, |own, asked| {
        let mut reply = asked.reply();
        for id in [Vec::new(), vec![0], vec![0x12; 1000], b"garbage".to_vec()] {
            let addrs = vec![Vec::new(), vec![0xff; 20], b"/ip4/127.0.0.1".to_vec()];
            let peer = Peer {
                id,
                addrs: addrs.clone(),
                connection: -7,
            };
            reply.closer.push(peer.clone());
            reply.providers.push(peer);
            reply.closer.push(Peer {
                addrs,
                ..own.clone()
            });
        }
        Reply::Message(reply)
    });
}

#[test]
fn peers_that_hang_up() {
    withstands(3, |_, _| Reply::HangUp);
}

#[test]
fn peers_with_records_of_other_keys() {
    let (key, value) = fresh_public_key_record();
    withstands(3, move |own, asked| {
        if asked.kind() == Kind::GetValue {
            Reply::Message(asked.reply().with_record(&key, &value))
        } else {
            polite(own, asked)
        }
    });
}

/// A peer that never answers delays a lookup by its own timeout at most.
#[test]
fn a_peer_that_never_answers_holds_up_nothing_for_long() {
    let [node, neighbour, far] = row();
    let content = cid(b"honest");
    far.client().provide(&content).expect("PROVIDE");
    let puppet = Puppet::new(admitted(|_, _| Reply::Silence));
    puppet.join(&node);
    let begun = Instant::now();
    let found = node
        .client()
        .find_providers(&content, Some(1))
        .expect("found");
    assert_eq!(found[0].0, far.peer_id());
    let (peer, _) = node.client().find_peer(far.peer_id()).expect("FIND_PEER");
    assert_eq!(peer, far.peer_id());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let closest = node.client().closest_peers(b"key").expect("closest");
    assert!(closest.contains(&neighbour.peer_id()));
    let least = Duration::from_secs(30);
    assert!(begun.elapsed() < least, "{:?}", begun.elapsed());
}

#[test]
fn requests_that_are_none_end_their_stream_and_no_other() {
    let [node, puppet] = [server(), server()];
    join(&node, &puppet);
    let puppet = Puppet::new(polite);
    puppet.join(&node);
    let mut steady = open(&puppet.daemon, node.peer_id()).expect("a stream");
    let mut random = Random::new("requests");
    let ping = Message::new(Kind::Ping, b"");
    for round in 0..60 {
        let mut bad = open(&puppet.daemon, node.peer_id()).expect("a stream");
        let bytes = match round % 6 {
            0 => random.bytes(1 + round * 50),
            1 => raw::frame(&random.bytes(1 + round)),
            2 => [raw::varint(1 << 62), vec![0; 1000]].concat(),
            3 => vec![0xff; 20],
            // A kind that does not exist.
            4 => raw::frame(&raw::int(1, 99)),
            _ => raw::frame(&[raw::int(1, 4), raw::bytes(2, &vec![7; 100_000])].concat()),
        };
        let _ = bad.write_all(&bytes);
        let _ = bad.socket.shutdown_write();
        // Whatever comes of it, it comes to an end.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut bad, &mut rest);
        let answer = ask(&mut steady, &ping).expect("the other stream lives");
        assert_eq!(answer.kind(), Kind::Ping);
    }
    assert!(node.client().closest_peers(b"key").is_ok());
}

#[test]
fn half_a_request_holds_up_only_its_own_stream() {
    let node = server();
    let puppet = Puppet::new(polite);
    puppet.join(&node);
    let half: Vec<_> = (0..50)
        .map(|_| {
            let mut pipe = open(&puppet.daemon, node.peer_id()).expect("a stream");
            pipe.write_all(&[100, 8, 4]).expect("a part of a frame");
            pipe
        })
        .collect();
    let mut pipe = open(&puppet.daemon, node.peer_id()).expect("a stream");
    ask(&mut pipe, &Message::new(Kind::Ping, b"")).expect("an answer");
    drop(half);
}

/// The store holds 64 MiB of provider records, then it evicts the oldest.
#[test]
fn announcements_without_end_are_bounded() {
    let node = server();
    let puppet = Puppet::new(polite);
    puppet.join(&node);
    let own = Peer::of(&puppet.daemon);
    let mut pipe = open(&puppet.daemon, node.peer_id()).expect("a stream");
    let mut random = Random::new("announcements");
    let mut announce = |thousands: usize| {
        let mut last = Vec::new();
        for _ in 0..thousands {
            let mut burst = Vec::new();
            for _ in 0..1000 {
                last = [&[0x12, 0x20], random.bytes(32).as_slice()].concat();
                burst.extend(frame::encode(&Message::provide(&last, own.clone())));
            }
            pipe.write_all(&burst).expect("announce");
        }
        let question = Message::new(Kind::GetProviders, &last);
        let answer = ask(&mut pipe, &question).expect("an answer");
        assert_eq!(answer.providers.len(), 1, "no room for the latest");
        node.rss_kib()
    };
    let full = announce(150);
    let after = announce(100);
    let grown = after.saturating_sub(full);
    assert!(grown < ROOM, "{grown} KiB more for 100,000 further ones");
}

#[test]
fn records_without_end_are_bounded() {
    let node = server();
    let puppet = Puppet::new(polite);
    puppet.join(&node);
    let before = node.rss_kib();
    let mut pipe = open(&puppet.daemon, node.peer_id()).expect("a stream");
    let mut refused = 0;
    for _ in 0..3000 {
        let (key, value) = fresh_public_key_record();
        if ask(&mut pipe, &Message::put(&key, &value)).is_err() {
            refused += 1;
            pipe = open(&puppet.daemon, node.peer_id()).expect("a stream");
        }
    }
    println!("{refused} of 3000 refused");
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < ROOM, "{grown} KiB for 3,000 records");
    let (key, value) = fresh_public_key_record();
    let _ = node.client().put_value(&key, &value);
    assert_eq!(
        node.client().get_value(&key),
        Ok(value),
        "no room for its own"
    );
}

#[test]
fn streams_without_end_are_bounded() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let node = server();
    let puppet = Puppet::new(polite);
    puppet.join(&node);
    let before = (node.rss_kib(), node.fds());
    let question = frame::encode(&Message::new(Kind::FindNode, &node.peer_id().to_bytes()));
    // Asks and never reads.
    let streams: Vec<_> = (0..500)
        .filter_map(|_| {
            let mut pipe = open(&puppet.daemon, node.peer_id()).ok()?;
            let _ = pipe.write_all(&question.repeat(100));
            Some(pipe)
        })
        .collect();
    assert!(!streams.is_empty());
    let neighbour = server();
    join(&node, &neighbour);
    assert!(neighbour.client().find_peer(puppet.peer_id()).is_ok());
    let grown = node.rss_kib().saturating_sub(before.0);
    assert!(grown < ROOM, "{grown} KiB for {} streams", streams.len());
    drop(streams);
    drop(puppet);
    let back = eventually(PATIENCE, || node.fds() <= before.1 + 1);
    assert!(back, "{} descriptors, {} before", node.fds(), before.1);
}

/// The first peer to name addresses of another may lie. Addresses from other tellers are tried too.
#[test]
fn a_liar_that_is_quicker_hides_nobody() {
    let far = server();
    let (node, truth) = (server(), Peer::of(&far));
    let closed: Multiaddr = "/ip4/127.0.0.1/tcp/1025".parse().expect("an address");
    let lie = Peer::new(far.peer_id(), &[closed]);
    let naming = |named: Peer, delay: Duration| {
        admitted(move |_, asked| {
            // How long the way to this peer is.
            std::thread::sleep(delay);
            let mut reply = asked.reply();
            reply.closer.push(named.clone());
            Reply::Message(reply)
        })
    };
    let liar = Puppet::new(naming(lie, Duration::ZERO));
    let honest = Puppet::new(naming(truth, Duration::from_millis(300)));
    for puppet in [&liar, &honest] {
        puppet.join(&node);
    }
    // Joining looks up other keys, whose answers are no lies about `far` that last.
    let found = node.client().find_peer(far.peer_id());
    let (_, addresses) = found.expect("FIND_PEER");
    assert!(liar.was_asked(Kind::FindNode), "nobody lied");
    assert!(
        far.addrs().iter().all(|addr| addresses.contains(addr)),
        "{addresses:?}"
    );
    let connected = node.client().list_peers();
    assert!(connected.iter().any(|(peer, _)| *peer == far.peer_id()));
}
