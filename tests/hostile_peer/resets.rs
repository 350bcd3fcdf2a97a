//! Streams that are opened and given up in a loop, and streams that are half closed for ever.

use std::io::{Read, Write};
use std::time::Duration;

use rp2pd::wire::frame;

use super::*;
use crate::support::by_hand::{ByHand, DATA, FIN, MULTISTREAM, RST, SYN, data, header, messages};
use crate::support::kad::{self, Kind, Message};
use crate::support::relay::{HOP, Hop, RESERVE};
use crate::support::{Handler, PATIENCE, raw, rpc};

/// What is begun on each stream: its protocol, and a request.
fn beginnings() -> Vec<Vec<u8>> {
    let reserve = Hop {
        kind: Some(RESERVE),
        ..Hop::default()
    };
    let find = frame::encode(&Message::new(Kind::FindNode, b"anybody"));
    [
        ("/echo/1.0.0", b"echo".to_vec()),
        (kad::PROTOCOL, find.to_vec()),
        (rpc::PROTOCOL, raw::frame(&rpc::subscription(true, b"t"))),
        (HOP, frame::encode(&reserve).to_vec()),
        ("/ipfs/ping/1.0.0", vec![7; 32]),
        ("/ipfs/id/1.0.0", Vec::new()),
        ("/ipfs/id/push/1.0.0", raw::frame(&raw::bytes(6, b"agent"))),
        ("/none", Vec::new()),
    ]
    .into_iter()
    .map(|(protocol, said)| [messages(&[MULTISTREAM, protocol]), said].concat())
    .collect()
}

/// HTTP/2 knows it as rapid reset: each costs the sender little and the daemon a task.
pub fn streams_reset_as_soon_as_they_ask() {
    const LEAST: usize = 40_000;
    let scene = Scene::new(&["-dhtServer", "-pubsub"]);
    scene.under("rapid resets", Streams::New, |crowd| {
        let start = crowd.rounds();
        let beginnings = beginnings();
        let mut peer = ByHand::connect(&scene.victim);
        let told = peer.discard();
        let mut reset = 0;
        while crowd.rounds() < start + ENOUGH || reset < LEAST {
            let mut frames = Vec::new();
            for said in beginnings.iter().cycle().take(200) {
                let number = peer.number();
                frames.extend(data(SYN, number, said));
                frames.extend(header(DATA, RST, number, 0));
                reset += 1;
            }
            peer.pipe.write_all(&frames).expect("the connection stays");
        }
        // It is read to the end, and whoever asks properly is served.
        let before = told.bytes();
        peer.open(&beginnings[0]).expect("the connection stays");
        assert!(eventually(PATIENCE, || told.bytes() > before), "no answer");
        assert!(!told.is_ended(), "the connection ended");
        println!("{reset} streams opened and reset");
    });
}

/// One side ends at once, the other never: neither the handler nor the peer says more.
pub fn half_closed_streams_kept_for_ever() {
    const STREAMS: usize = 1500;
    const NAME: &str = "/half/1.0.0";
    /// For each, in KiB, in the daemon.
    const EACH: u64 = 24;
    let scene = Scene::new(&[]);
    let handler = Handler::unix();
    let registered = handler.register(&mut scene.victim.client(), &[NAME], None);
    registered.expect("a handler");
    scene.under("half closed streams", Streams::Kept, |crowd| {
        let before = scene.victim.rss_kib();
        let mut peer = ByHand::connect(&scene.victim);
        let told = peer.discard();
        let said = [messages(&[MULTISTREAM, NAME]), b"half".to_vec()].concat();
        let mut held = Vec::new();
        for number in 0..STREAMS {
            let stream = peer.number();
            let frame = data(SYN | FIN, stream, &said);
            peer.pipe.write_all(&frame).expect("the connection stays");
            // So many are not accepted at once.
            if number % 100 == 99 {
                held.extend((0..100).map(|_| handler.accept(PATIENCE).expect("a stream").1));
            }
        }
        // The end of the peer's side has come through.
        for pipe in &mut held {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).expect("the end");
            assert_eq!(bytes, b"half");
        }
        crowd.await_rounds(ENOUGH);
        let grown = scene.victim.rss_kib().saturating_sub(before);
        println!("{STREAMS} half closed streams: RSS grew by {grown} KiB");
        assert!(scene.victim.fds() > STREAMS, "they are not held");
        assert!(grown < EACH * STREAMS as u64, "RSS grew by {grown} KiB");
        assert!(!told.is_ended(), "the connection ended");
        // With the peer they go within a second, whatever the handler does.
        drop(peer);
        let gone = || scene.victim.fds() < STREAMS / 2;
        assert!(
            eventually(PATIENCE + Duration::from_secs(5), gone),
            "they stay"
        );
    });
}
