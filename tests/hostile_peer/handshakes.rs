//! Connections that are never made, and keys that are none.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::identity::Keypair;

use super::*;
use crate::support::by_hand::{self, MULTISTREAM, agree, exchange, messages};
use crate::support::{Pipe, raw};

const GAVE_WAY: &str = "inbound connections being secured";

/// As many may be on their way at once.
const PENDING: usize = 256;

/// One that stops after `step` steps of its handshake.
fn half_done(victim: &Daemon, step: usize) -> std::io::Result<Pipe> {
    let mut pipe = by_hand::dial(victim);
    let noise = messages(&[MULTISTREAM, "/noise"]);
    match step {
        0 => {}
        1 => pipe.write_all(&noise[..5])?,
        2 => pipe.write_all(&messages(&[MULTISTREAM]))?,
        // The first of three messages of noise: a key that nobody has.
        3 => {
            agree(&mut pipe, "/noise")?;
            pipe.write_all(&[&[0, 32], &[9; 32][..]].concat())?;
        }
        // The length of one that never comes.
        4 => {
            agree(&mut pipe, "/noise")?;
            pipe.write_all(&[0xff, 0xff])?;
        }
        5 => agree(&mut pipe, "/tls/1.0.0")?,
        6 => {
            agree(&mut pipe, "/tls/1.0.0")?;
            pipe.write_all(&[22, 3, 1, 0x40, 0, 1])?;
        }
        7 => {
            agree(&mut pipe, "/plaintext/2.0.0")?;
            pipe.write_all(&raw::varint(60_000))?;
        }
        _ => {
            agree(&mut pipe, "/plaintext/2.0.0")?;
            let public = Keypair::generate_ed25519().public();
            let id = public.to_peer_id().to_bytes();
            pipe.write_all(&exchange(&id, &public.encode_protobuf()))?;
        }
    }
    Ok(pipe)
}

pub fn handshakes_that_never_finish() {
    let scene = Scene::new(&[]);
    scene.under("half handshakes", Streams::New, |crowd| {
        let started = Instant::now();
        // All places are taken, in every state that a handshake can have.
        let mut open: Vec<Pipe> = (0..PENDING)
            .map(|number| half_done(&scene.victim, number % 9).expect("a place"))
            .collect();
        // Further ones are answered: those that have been silent for longest give way.
        let before = scene.victim.bites(GAVE_WAY);
        for number in 0..200 {
            let mut pipe = by_hand::dial(&scene.victim);
            pipe.write_all(&messages(&[MULTISTREAM]))
                .expect("say hello");
            let answer = pipe.read_frame();
            assert!(answer.is_ok(), "connection {number} beyond the limit");
            open.push(pipe);
        }
        let gave_way = scene.victim.bites(GAVE_WAY) - before;
        println!("{gave_way} gave way, RSS {} KiB", scene.victim.rss_kib());
        assert!(gave_way >= 190, "{gave_way} gave way");
        Daemon::spawn(&["-noListenAddrs"]).connect_to(&scene.victim);
        crowd.await_rounds(ENOUGH);
        // They are given up, all of them.
        for pipe in &mut open {
            let mut rest = Vec::new();
            let end = pipe.read_to_end(&mut rest);
            let over = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(end.is_ok() || end.is_err_and(over));
        }
        let took = started.elapsed();
        assert!(
            took > Duration::from_secs(13) && took < Duration::from_secs(30),
            "{took:?}"
        );
        // The places are free again, for honest ones as well.
        let late = Daemon::spawn(&["-noListenAddrs"]);
        late.connect_to(&scene.victim);
    });
}

/// A public key of RSA with a modulus of so many bits, as libp2p writes it.
fn rsa(bits: usize) -> Vec<u8> {
    let element = |tag: u8, body: &[u8]| {
        let len = body.len();
        let mut out = vec![tag];
        match len {
            0..128 => out.push(len as u8),
            128..256 => out.extend([0x81, len as u8]),
            256..65536 => out.extend([0x82, (len >> 8) as u8, len as u8]),
            _ => out.extend([0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8]),
        }
        out.extend_from_slice(body);
        out
    };
    let mut modulus = vec![0];
    modulus.extend(crate::support::payload(bits / 8, 7));
    modulus[1] |= 0x80;
    let key = element(
        0x30,
        &[element(2, &modulus), element(2, &[1, 0, 1])].concat(),
    );
    let algorithm = [
        0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0,
    ];
    let info = [&algorithm[..], &element(3, &[vec![0], key].concat())].concat();
    let info = element(0x30, &info);
    [raw::int(1, 0), raw::bytes(2, &info)].concat()
}

pub fn keys_that_are_none() {
    let scene = Scene::new(&[]);
    let id = |key: &[u8]| {
        // That of the key's own bytes, where there is one.
        let digest = <sha2::Sha256 as sha2::Digest>::digest(key);
        [&[0x12, 0x20], &digest[..]].concat()
    };
    let good = Keypair::generate_ed25519().public();
    let other = PeerId::random().to_bytes();
    let mut keys: Vec<(&str, Vec<u8>, Vec<u8>)> = [1024, 16384, 131_072]
        .map(|bits| {
            let key = rsa(bits);
            ("RSA", id(&key), key)
        })
        .into();
    keys.push(("nothing", Vec::new(), Vec::new()));
    keys.push(("another peer's id", other.clone(), good.encode_protobuf()));
    keys.push(("an id without a key", other, Vec::new()));
    keys.push((
        "a type that is none",
        id(b"x"),
        [raw::int(1, 99), raw::bytes(2, b"x")].concat(),
    ));
    keys.push(("65,000 bytes", vec![0x12; 300], vec![0xff; 64_000]));
    scene.under("keys", Streams::New, |crowd| {
        let start = crowd.rounds();
        let ticks = scene.victim.cpu_ticks();
        let mut tried = 0_u64;
        while tried == 0 || crowd.rounds() < start + ENOUGH {
            for (what, peer, key) in &keys {
                let mut pipe = by_hand::dial(&scene.victim);
                agree(&mut pipe, "/plaintext/2.0.0").expect(what);
                pipe.write_all(&exchange(peer, key)).expect(what);
                pipe.read_frame().expect("the daemon's own");
                let yamux = agree(&mut pipe, "/yamux/1.0.0");
                // Over plaintext a key of any size is a name, no more: nothing is computed with it.
                let admitted = *what == "RSA" && yamux.is_ok();
                assert!(yamux.is_err() || admitted, "{what} is admitted");
                tried += 1;
            }
        }
        let ticks = scene.victim.cpu_ticks() - ticks;
        println!("{tried} keys, {ticks} ticks with all that normal clients took");
    });
}
