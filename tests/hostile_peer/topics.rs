//! Peers that announce topics by the ten thousand, which nobody else has.

use std::io::Write;
use std::time::{Duration, Instant};

use super::*;
use crate::support::by_hand::{ByHand, MULTISTREAM, data, messages};
use crate::support::{PATIENCE, raw, rpc};

const PEERS: u32 = 60;
const TOPICS: u32 = 10_000;
const REFUSED: &str = "topics of peers";

/// What the daemon may hold for all of them, in KiB. It charges 64 MiB at the most.
const MOST: u64 = 96 << 10;

/// The name of a topic, of five bytes.
fn name(peer: u32, topic: u32) -> [u8; 5] {
    let mut number = peer * TOPICS + topic;
    std::array::from_fn(|_| {
        let digit = u8::try_from(number % 36).expect("a digit");
        number /= 36;
        if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        }
    })
}

/// A peer that announces its topics in one RPC.
fn announce(victim: &Daemon, number: u32) -> ByHand {
    let mut peer = ByHand::connect(victim);
    let _read = peer.discard();
    let topics: Vec<u8> = (0..TOPICS)
        .flat_map(|topic| rpc::subscription(true, &name(number, topic)))
        .collect();
    let stream = peer
        .open(&messages(&[MULTISTREAM, rpc::PROTOCOL]))
        .expect("open");
    for chunk in raw::frame(&topics).chunks(16 << 10) {
        let frame = data(0, stream, chunk);
        peer.pipe.write_all(&frame).expect("write");
    }
    peer
}

fn known(victim: &Daemon, peer: u32, topic: u32) -> bool {
    let name = name(peer, topic);
    let topic = std::str::from_utf8(&name).expect("text");
    let peers = victim.client().topic_peers(topic);
    !peers.expect("LIST_PEERS").is_empty()
}

pub fn ten_thousand_topics_of_each_peer() {
    let scene = Scene::new(&["-pubsub"]);
    let victim = &scene.victim;
    scene.under("topics", Streams::New, |crowd| {
        let mut subscription = victim.subscribe("own");
        let before = victim.rss_kib();
        let mut slowest = Duration::ZERO;
        let mut publish = || {
            let started = Instant::now();
            victim.publish("own", b"data");
            assert_eq!(subscription.next_data(), b"data");
            slowest = slowest.max(started.elapsed());
        };
        let mut peers: Vec<ByHand> = Vec::new();
        for number in 0..PEERS {
            peers.push(announce(victim, number));
            publish();
        }
        let heard = || known(victim, PEERS - 1, TOPICS - 1) || victim.bites(REFUSED) > 0;
        assert!(eventually(PATIENCE, heard), "they are not heard");
        assert!(known(victim, 0, TOPICS - 1), "the first one's topics");
        crowd.await_rounds(ENOUGH);
        let grown = victim.rss_kib().saturating_sub(before);
        for _ in 0..20 {
            publish();
        }
        // They leave all at once.
        drop(peers);
        publish();
        let gone = || !known(victim, 0, 0) && !known(victim, 0, TOPICS - 1);
        assert!(eventually(PATIENCE, gone), "topics of peers that have gone");
        publish();
        println!(
            "{PEERS} peers with {TOPICS} topics each: RSS grew by {grown} KiB, slowest PUBLISH {slowest:?}"
        );
        assert!(grown < MOST, "RSS grew by {grown} KiB");
        assert!(victim.bites(REFUSED) > 0, "there was room for all");
        crowd.await_rounds(ENOUGH);
    });
}
