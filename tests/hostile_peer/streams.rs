//! Streams by the hundred thousand, and streams that nobody reads.

use std::io::{ErrorKind, Write};

use super::*;
use crate::support::by_hand::{
    ACK, ByHand, DATA, MULTISTREAM, SYN, WINDOW, WINDOW_UPDATE, data, header, messages,
};

const OPENINGS: u64 = 100_000;
pub const REFUSED: &str = "inbound streams";

/// The frames that open `count` streams and say nothing on them.
pub fn openings(peer: &mut ByHand, count: u64) -> Vec<u8> {
    (0..count)
        .flat_map(|_| header(DATA, SYN, peer.number(), 0))
        .collect()
}

pub fn a_hundred_thousand_openings_on_one_connection() {
    let scene = Scene::new(&[]);
    scene.under("100,000 openings", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut peer = ByHand::connect(&scene.victim);
        let told = peer.discard();
        for _ in 0..OPENINGS / 1000 {
            let frames = openings(&mut peer, 1000);
            peer.pipe.write_all(&frames).expect("the connection stays");
        }
        // Whoever is beyond the limit was reset; the others are waited for in vain.
        assert!(eventually(support::PATIENCE, || {
            scene.victim.bites(REFUSED) >= OPENINGS - 17_000
        }));
        println!(
            "RSS with 16,384 silent streams: {} KiB",
            scene.victim.rss_kib()
        );
        let more = ENOUGH.saturating_sub(crowd.rounds() - start);
        crowd.await_rounds(more);
        // It still is a connection like any other.
        let said = messages(&[MULTISTREAM, "/echo/1.0.0"]);
        peer.open(&said).expect("the connection stays");
        assert!(!told.is_ended(), "the connection ended");
    });
}

pub fn openings_whose_refusals_are_not_read() {
    let scene = Scene::new(&[]);
    // A connection ends at 65,536 streams, and what they took is used again: the growth ends, after
    // a hundred such connections as after ten.
    scene.under("unread refusals", Streams::New, |crowd| {
        let start = crowd.rounds();
        let (mut sent, mut ended) = (0, 0);
        while crowd.rounds() < start + ENOUGH {
            let mut peer = ByHand::connect(&scene.victim);
            let stall = std::time::Duration::from_millis(500);
            peer.pipe.socket.set_timeout(stall).expect("set a timeout");
            for _ in 0..OPENINGS / 1000 {
                let frames = openings(&mut peer, 1000);
                if peer.pipe.write_all(&frames).is_err() {
                    break;
                }
                sent += 1000;
            }
            ended += 1;
        }
        println!("{sent} openings on {ended} connections");
        assert!(sent >= OPENINGS / 2);
    });
}

pub fn streams_that_are_never_read() {
    const STREAMS: u32 = 200;
    let scene = Scene::new(&[]);
    scene.under("unread streams", Streams::New, |crowd| {
        let mut peer = ByHand::connect(&scene.victim);
        // Everything that the connection tells is read, but no stream gets more to send.
        let told = peer.discard();
        let said = messages(&[MULTISTREAM, "/echo/1.0.0"]);
        let numbers: Vec<u32> = (0..STREAMS)
            .map(|_| peer.open(&said).expect("open"))
            .collect();
        let chunk = vec![7; 16 << 10];
        let mut sent = 0_usize;
        peer.pipe
            .socket
            .set_timeout(std::time::Duration::from_secs(1))
            .expect("set a timeout");
        for number in &numbers {
            // As much as the window admits, less what has been said.
            for _ in 0..WINDOW / chunk.len() - 1 {
                match peer.pipe.write_all(&data(0, *number, &chunk)) {
                    Ok(()) => sent += chunk.len(),
                    Err(error) => panic!("{sent} bytes sent: {error}"),
                }
            }
        }
        crowd.await_rounds(ENOUGH);
        println!(
            "{sent} bytes on {STREAMS} streams, RSS {} KiB",
            scene.victim.rss_kib()
        );
        let read = told.bytes();
        // Each was sent back what its first window admits, and no more.
        assert!(
            read <= u64::from(STREAMS) * (WINDOW as u64 + 1000),
            "{read} bytes"
        );
        assert!(
            read > u64::from(STREAMS) * (WINDOW as u64 / 2),
            "{read} bytes"
        );
    });
    // Windows that the peer widens are filled as far as the data goes, and no further.
    let mut peer = ByHand::connect(&scene.victim);
    let number = peer
        .open(&messages(&[MULTISTREAM, "/echo/1.0.0"]))
        .expect("open");
    peer.pipe
        .write_all(&header(WINDOW_UPDATE, ACK, number, 1 << 30))
        .expect("write");
    let echoed = |error: &std::io::Error| error.kind() != ErrorKind::WouldBlock;
    peer.pipe.write_all(&data(0, number, b"?")).expect("write");
    let frame = peer.receive().map_err(|error| assert!(echoed(&error)));
    assert!(frame.is_ok());
}
