//! A DHT server, and peers that have it hold answers.

use std::io::Write;

use rp2pd::wire::frame;

use super::*;
use crate::support::by_hand::{ByHand, DATA, Discarded, MULTISTREAM, messages};
use crate::support::cgroup::Group;
use crate::support::kad::{Kind, Message, PROTOCOL, Peer};

/// The memory of the victim in bytes, as in the attack's first description.
const LIMIT: u64 = 512 << 20;

/// Ids that announce the same key.
const ANNOUNCERS: usize = 16;

/// Connections that ask for its providers, and streams on each.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 600;

/// Requests on each stream: more answers than its first window admits.
const REQUESTS: usize = 24;

const CHARGED: &str = "memory held because of one peer, client or address prefix";

/// Announces `key` with 32 addresses of 489 bytes.
fn announce(victim: &Daemon, key: &[u8]) {
    let mut peer = ByHand::connect(victim);
    let part = format!("/p2p/{}", libp2p::PeerId::random());
    let address = format!("/ip4/127.0.0.1/tcp/4001{}", part.repeat(13));
    let address: libp2p::Multiaddr = address.parse().expect("an address");
    assert!((480..512).contains(&address.len()), "{}", address.len());
    let own = Peer::new(peer.peer_id(), &vec![address; 32]);
    let distinct = |(number, address): (u8, &Vec<u8>)| {
        let mut address = address.clone();
        // The port's lower byte.
        address[7] = number;
        address
    };
    let own = Peer {
        addrs: (0..).zip(&own.addrs).map(distinct).collect(),
        ..own
    };
    let mut body = messages(&[MULTISTREAM, PROTOCOL]);
    body.extend(frame::encode(&Message::provide(key, own)));
    body.extend(frame::encode(&Message::new(Kind::Ping, b"pong")));
    let stream = peer.open(&body).expect("open");
    loop {
        let frame = peer.receive().expect("an answer");
        let answered = |body: &[u8]| body.windows(4).any(|part| part == b"pong");
        if frame.kind == DATA && frame.stream == stream && answered(&frame.body) {
            return;
        }
    }
}

/// Opens streams that ask for the providers of `key` and never admit more than the first window.
/// `None` if the daemon takes no connection any more.
fn ask(victim: &Daemon, key: &[u8]) -> Option<(ByHand, Discarded)> {
    let mut peer = ByHand::try_connect(victim).ok()?;
    let read = peer.discard();
    let question = frame::encode(&Message::new(Kind::GetProviders, key));
    let mut body = messages(&[MULTISTREAM, PROTOCOL]);
    body.extend(question.repeat(REQUESTS));
    for _ in 0..STREAMS {
        // A connection that is cut has done its part.
        if peer.open(&body).is_err() {
            break;
        }
    }
    let _ = peer.pipe.flush();
    Some((peer, read))
}

pub fn answers_that_nobody_takes() {
    let group = Group::with_limit(LIMIT);
    let scene = Scene::in_group(group, &["-dhtServer", "-memoryLimit=536870912"]);
    let key = [&[0x12, 0x20][..], &[7; 32]].concat();
    for _ in 0..ANNOUNCERS {
        announce(&scene.victim, &key);
    }
    scene.under("answers that nobody takes", Streams::New, |crowd| {
        let start = crowd.rounds();
        let begun = std::time::Instant::now();
        let mut peak = 0;
        let peers: Vec<_> = (0..CONNECTIONS)
            .filter_map(|_| ask(&scene.victim, &key))
            .collect();
        while crowd.rounds() < start + ENOUGH {
            peak = peak.max(scene.victim.rss_kib());
            crowd.await_rounds(10);
        }
        let read: u64 = peers.iter().map(|(_, read)| read.bytes()).sum();
        println!(
            "{read} bytes of answers read in {:?}, RSS {peak} KiB at most, {} refusals for memory",
            begun.elapsed(),
            scene.victim.bites(CHARGED)
        );
        // Every stream was answered until its window was full.
        assert!(read > 64 << 20, "{read} bytes read: no attack");
        assert!(peak < 256 << 10, "RSS {peak} KiB");
    });
}
