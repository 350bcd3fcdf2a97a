//! Two hundred peers and forty clients that mean harm, each in its own way, all at once, on a daemon
//! that the kernel ends if it takes more than it may (CONTRIBUTING.md, "Endure").
//! `RP2PD_TEST_TOGETHER_SECONDS` is how long, 30 unless told.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rp2pd::wire::frame;

use super::streams::openings;
use super::*;
use crate::support::by_hand::{
    self, ByHand, MULTISTREAM, SYN, agree, data, exchange, header, messages,
};
use crate::support::cgroup::Group;
use crate::support::kad::{self, Kind, Message};
use crate::support::{ControlClient, Random, raw, rpc};

const PEERS: usize = 200;
const CLIENTS: usize = 40;

/// How long an attacker stays before it comes again with another identity.
const STAY: Duration = Duration::from_secs(3);

/// One way to do harm: what is done on a new connection. Errors end the attempt.
type Harm = (&'static str, fn(&mut ByHand, &mut Random) -> io::Result<()>);

const HARMS: [Harm; 10] = [
    ("openings", |peer, _| {
        let frames = openings(peer, 20_000);
        peer.pipe.write_all(&frames)
    }),
    ("answers not read", |peer, _| {
        let chunk = vec![7; 16 << 10];
        for _ in 0..40 {
            let stream = peer.open(&messages(&[MULTISTREAM, "/echo/1.0.0"]))?;
            for _ in 0..15 {
                peer.pipe.write_all(&data(0, stream, &chunk))?;
            }
        }
        Ok(())
    }),
    ("half negotiations", |peer, _| {
        for _ in 0..2000 {
            let number = peer.number();
            peer.pipe
                .write_all(&data(SYN, number, b"\x13/multistream"))?;
        }
        Ok(())
    }),
    ("half RPCs", |peer, _| half(peer, rpc::PROTOCOL, 1000 << 10)),
    ("half DHT messages", |peer, _| {
        half(peer, kad::PROTOCOL, 4 << 20)
    }),
    ("topics", |peer, random| {
        let topics: Vec<u8> = (0..10_000)
            .flat_map(|_| rpc::subscription(true, &name(random)))
            .collect();
        let stream = peer.open(&messages(&[MULTISTREAM, rpc::PROTOCOL]))?;
        for chunk in raw::frame(&topics).chunks(16 << 10) {
            peer.pipe.write_all(&data(0, stream, chunk))?;
        }
        Ok(())
    }),
    ("DHT answers not taken", |peer, _| {
        let key = [&[0x12, 0x20][..], &[7; 32]].concat();
        let part = format!("/p2p/{}", libp2p::PeerId::random());
        let address = format!("/ip4/127.0.0.1/tcp/4001{}", part.repeat(13));
        let address: libp2p::Multiaddr = address.parse().expect("an address");
        let own = kad::Peer::new(peer.peer_id(), &vec![address; 32]);
        let mut said = messages(&[MULTISTREAM, kad::PROTOCOL]);
        said.extend(frame::encode(&Message::provide(&key, own)));
        peer.open(&said)?;
        let mut asked = messages(&[MULTISTREAM, kad::PROTOCOL]);
        asked.extend(frame::encode(&Message::new(Kind::GetProviders, &key)).repeat(24));
        for _ in 0..300 {
            peer.open(&asked)?;
        }
        Ok(())
    }),
    ("identify messages", |peer, _| {
        let address = raw::bytes(2, &[4, 127, 0, 0, 1, 6, 15, 161]);
        peer.tell_identity(&address.repeat(380))
    }),
    ("pings", |peer, _| {
        let pings = header(by_hand::PING, SYN, 0, 7).repeat(20_000);
        peer.pipe.write_all(&pings)
    }),
    ("noise", |peer, random| {
        for _ in 0..50 {
            let number = peer.number();
            let length = random.below(16 << 10);
            peer.pipe
                .write_all(&data(SYN, number, &random.bytes(length)))?;
        }
        let bytes = random.bytes(4096);
        peer.pipe.write_all(&bytes)
    }),
];

/// A name of five letters.
fn name(random: &mut Random) -> Vec<u8> {
    let letters = random.bytes(5).into_iter();
    letters.map(|byte| b'a' + byte % 26).collect()
}

/// Twenty streams, each with most of a message of `length` bytes.
fn half(peer: &mut ByHand, protocol: &str, length: usize) -> io::Result<()> {
    let part = vec![0x0a; 200 << 10];
    for _ in 0..20 {
        let stream = peer.open(&messages(&[MULTISTREAM, protocol]))?;
        peer.pipe
            .write_all(&data(0, stream, &raw::varint(length as u64)))?;
        for chunk in part.chunks(16 << 10) {
            peer.pipe.write_all(&data(0, stream, chunk))?;
        }
    }
    Ok(())
}

/// What one attacker does until the `end`.
fn attack(victim: &Daemon, number: usize, end: Instant, counts: &[AtomicU64]) {
    let mut random = Random::seeded(number as u64);
    let mut turn = number;
    let only = std::env::var("RP2PD_TEST_TOGETHER_ONLY");
    let only: Option<usize> = only.ok().and_then(|text| text.parse().ok());
    while Instant::now() < end {
        let which = only.unwrap_or(turn % HARMS.len());
        turn += 1;
        let stay = end.min(Instant::now() + STAY);
        let Ok(mut peer) = ByHand::try_connect(victim) else {
            // A handshake that never ends, while there is no room for more.
            let mut silent = by_hand::dial(victim);
            let begun = agree(&mut silent, "/plaintext/2.0.0");
            let _ = begun.and_then(|()| silent.write_all(&exchange(b"half", b"half")[..5]));
            std::thread::sleep(Duration::from_millis(200));
            continue;
        };
        let stall = Duration::from_millis(500);
        let _ = peer.pipe.socket.set_timeout(stall);
        let (_, harm) = HARMS[which];
        let _ = harm(&mut peer, &mut random);
        counts[which].fetch_add(1, Ordering::Relaxed);
        // What it holds stays for a while.
        std::thread::sleep(stay.saturating_duration_since(Instant::now()));
    }
}

/// A client that sends half a frame, or reads no answer.
fn greedy(victim: &Daemon, number: usize, end: Instant) {
    let half = [raw::varint(4 << 20), vec![8; 256 << 10]].concat();
    let requests = [2, 8, 0].repeat(50_000);
    while Instant::now() < end {
        let clients: Vec<ControlClient> = (0..20)
            .filter_map(|_| ControlClient::connect(victim.control()).ok())
            .map(|mut client| {
                let pause = Duration::from_millis(50);
                let _ = client.pipe.socket.set_timeout(pause);
                let _ = client.send_raw(if number.is_multiple_of(2) {
                    &half
                } else {
                    &requests
                });
                client
            })
            .collect();
        std::thread::sleep(STAY);
        drop(clients);
    }
}

fn within(limit: u64) {
    let Some(group) = Group::with_limit(limit) else {
        return;
    };
    let seconds = std::env::var("RP2PD_TEST_TOGETHER_SECONDS");
    let seconds = seconds
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(30);
    let scene = Scene::in_group(Some(group), &["-dhtServer", "-pubsub", "-stayAlive"]);
    let counts: Vec<AtomicU64> = HARMS.iter().map(|_| AtomicU64::new(0)).collect();
    let crowd = Crowd::start(&scene.victim, &scene.other, Streams::Kept);
    let end = Instant::now() + Duration::from_secs(seconds);
    let before = crowd.rounds();
    std::thread::scope(|scope| {
        for number in 0..PEERS {
            let (victim, counts) = (&scene.victim, &counts);
            scope.spawn(move || {
                let _ = rustix::process::nice(19);
                attack(victim, number, end, counts);
            });
        }
        for number in 0..CLIENTS {
            let victim = &scene.victim;
            scope.spawn(move || {
                let _ = rustix::process::nice(19);
                greedy(victim, number, end);
            });
        }
    });
    let during = format!("all attacks within {} MiB", limit >> 20);
    for ((what, _), count) in HARMS.iter().zip(&counts) {
        let count = count.load(Ordering::Relaxed);
        println!("{during}: {what}: {count} times");
        assert!(
            count > 0 || std::env::var_os("RP2PD_TEST_TOGETHER_ONLY").is_some(),
            "{during}: {what} never took place"
        );
    }
    println!(
        "{during}: {} rounds of normal clients",
        crowd.rounds() - before
    );
    scene.assert_spared(&during);
    crowd.finish().assert_short(&during);
    let _ = scene.victim.client().identify();
}

pub fn within_128_mib() {
    within(128 << 20);
}

pub fn within_512_mib() {
    within(512 << 20);
}

pub fn within_2_gib() {
    within(2 << 30);
}
