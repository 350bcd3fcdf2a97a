//! What peers tell of themselves, again and again, in parts, and before they go.

use std::io::Write;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;

use super::identify::known;
use super::*;
use crate::support::by_hand::{ByHand, FIN, MULTISTREAM, SYN, data, messages};
use crate::support::{PATIENCE, metrics, raw};

const CHARGED: &str = "memory held because of one peer, client or address prefix";

/// Addresses as a part of an identify message, another for each number, each followed by so many names
/// of a peer.
fn addresses(numbers: std::ops::Range<usize>, length: usize) -> Vec<u8> {
    let part = format!("/p2p/{}", libp2p::PeerId::random()).repeat(length);
    let address = |number| {
        let text = format!("/ip4/127.0.0.1/tcp/{}{part}", 1024 + number % 60_000);
        raw::bytes(2, &text.parse::<Multiaddr>().expect("an address").to_vec())
    };
    numbers.flat_map(address).collect()
}

/// Each push has other addresses: whoever remembers them, and is told of them, has work.
pub fn pushes_without_end() {
    const PUSH: &str = "/ipfs/id/push/1.0.0";
    let scene = Scene::new(&["-metricsAddr=127.0.0.1:0"]);
    scene.under("identify pushes", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut peer = ByHand::connect(&scene.victim);
        // Pushes of who has not said who it is are passed over.
        let key = raw::bytes(1, &peer.key.public().encode_protobuf());
        peer.tell_identity(&key).expect("it is asked");
        let told = peer.discard();
        let mut pushed = 0;
        while crowd.rounds() < start + ENOUGH || pushed < 3000 {
            for _ in 0..50 {
                let first = pushed % 50_000;
                let message = addresses(first..first + 100, 0);
                let said = [messages(&[MULTISTREAM, PUSH]), raw::frame(&message)].concat();
                let number = peer.number();
                let frame = data(SYN | FIN, number, &said);
                peer.pipe.write_all(&frame).expect("the connection stays");
                pushed += 1;
            }
        }
        let received = || {
            let text = metrics::scrape(&scene.victim);
            let samples = metrics::samples(&text);
            metrics::value(&samples, "libp2p_identify_identify_push_total", &[])
        };
        // The library takes ten at a time and refuses the others.
        assert!(
            eventually(PATIENCE, || received() >= 100.0),
            "{}",
            received()
        );
        let mut client = scene.victim.client();
        let count = known(&mut client, peer.peer_id()).expect("a peer");
        assert!((1..=64).contains(&count), "{count} addresses");
        println!("{pushed} pushes sent, {} received", received());
        assert!(!told.is_ended(), "the connection ended");
    });
}

/// What is remembered of peers that have left has a bound, and those of one address share it.
pub fn peers_that_tell_and_go() {
    const PEERS: usize = 700;
    /// Makes addresses of 489 bytes, nearly the largest size.
    const LENGTH: usize = 13;
    /// A sixteenth of the memory, and what else a debug build takes for so many connections.
    const MOST: u64 = 20 << 10;
    let scene = Scene::new(&["-memoryLimit=134217728"]);
    let crowd = Crowd::start(&scene.victim, &scene.other, Streams::New);
    let before = scene.victim.rss_kib();
    let mut client = scene.victim.client();
    let mut told = 0;
    for number in 0..PEERS {
        let mut peer = ByHand::connect(&scene.victim);
        // More than the library reads: rp2pd asks once more, and reads it in parts.
        let one = addresses(64 * number..64 * number + 64, LENGTH);
        let all = peer.tell_identity(&one);
        let parts: Vec<u8> = (0..4)
            .flat_map(|part| {
                let first = 64 * number + 16 * part;
                raw::frame(&addresses(first..first + 16, LENGTH))
            })
            .collect();
        let again = all.and_then(|()| peer.answer_identify(&parts, FIN));
        again.expect("it is asked twice");
        let heard = || known(&mut client, peer.peer_id()).is_some_and(|count| count > 10);
        assert!(eventually(PATIENCE, heard), "{number} is not heard");
        told += 64 * 489;
    }
    let grown = scene.victim.rss_kib().saturating_sub(before);
    println!("{PEERS} peers told {told} bytes of addresses: RSS grew by {grown} KiB");
    crowd.finish().assert_short("peers that tell and go");
    assert!(grown < MOST, "RSS grew by {grown} KiB");
}

/// A message of entries of two bytes each, whose end does not come.
pub fn messages_of_empty_entries() {
    const PEERS: usize = 100;
    const MOST: u64 = 40 << 10;
    let scene = Scene::new(&["-memoryLimit=134217728"]);
    let crowd = Crowd::start(&scene.victim, &scene.other, Streams::New);
    let before = scene.victim.rss_kib();
    let part = raw::frame(&raw::bytes(2, b"").repeat(4090));
    let parts = part.repeat(9);
    let begun = Instant::now();
    let mut peers = Vec::new();
    let mut peak = 0;
    for _ in 0..PEERS {
        let mut peer = ByHand::connect(&scene.victim);
        peer.tell_identity(&raw::bytes(2, b"").repeat(4090))
            .expect("it is asked");
        peer.answer_identify(&parts, 0).expect("it is asked again");
        peers.push(peer);
        peak = peak.max(scene.victim.rss_kib());
    }
    let grown = peak.saturating_sub(before);
    let bites = scene.victim.bites(CHARGED);
    println!(
        "RSS grew by {grown} KiB in {:?}, {bites} refusals",
        begun.elapsed()
    );
    assert!(bites > 0, "nobody pays");
    assert!(grown < MOST, "RSS grew by {grown} KiB");
    crowd.finish().assert_short("messages of empty entries");
    // They are given up.
    let mut client = scene.victim.client();
    let left = || known(&mut client, peers[0].peer_id()).is_none_or(|count| count == 0);
    assert!(eventually(PATIENCE + Duration::from_secs(5), left));
}
