//! yamux frames that break its rules, and too many of those that keep them.

use std::io::Write;
use std::time::Duration;

use super::*;
use crate::support::by_hand::{
    ACK, ByHand, DATA, FIN, GO_AWAY, MULTISTREAM, PING, RST, SYN, WINDOW, WINDOW_UPDATE, data,
    header, messages,
};
use crate::support::{PATIENCE, Random};

/// A peer with a stream that is echoed.
fn with_stream(victim: &Daemon) -> (ByHand, u32) {
    let mut peer = ByHand::connect(victim);
    let said = messages(&[MULTISTREAM, "/echo/1.0.0"]);
    let stream = peer.open(&said).expect("open");
    (peer, stream)
}

/// Frames of a connection that has this stream.
type Frames = fn(u32) -> Vec<u8>;

/// What each peer does after its handshake; whether the daemon must end the connection for it.
const ATTACKS: &[(&str, bool, Frames)] = &[
    // CVE-2026-32314.
    ("an opening with more than a window", true, |_| {
        data(SYN, 101, &vec![0; WINDOW + 1])
    }),
    // CVE-2026-31814.
    ("credit that overflows", true, |stream| {
        header(WINDOW_UPDATE, 0, stream, u32::MAX).repeat(3)
    }),
    ("credit that overflows from the start", true, |_| {
        header(WINDOW_UPDATE, SYN, 101, u32::MAX).to_vec()
    }),
    ("data beyond the window", true, |stream| {
        data(0, stream, &vec![0; 64 << 10]).repeat(64)
    }),
    ("a frame of 2 GiB", true, |stream| {
        header(DATA, 0, stream, 1 << 31).to_vec()
    }),
    ("the same opening twice", true, |stream| {
        data(SYN, stream, b"again")
    }),
    ("a number of the other side", true, |_| {
        data(SYN, 100, b"even")
    }),
    ("a stream on the connection itself", true, |_| {
        data(SYN, 0, b"zero")
    }),
    ("a type that is none", true, |stream| {
        header(9, 0, stream, 0).to_vec()
    }),
    ("another version", true, |stream| {
        let mut frame = header(DATA, 0, stream, 0);
        frame[0] = 1;
        frame.to_vec()
    }),
    ("farewells", true, |_| {
        (0..10_000)
            .flat_map(|code| header(GO_AWAY, 0, 0, code % 3))
            .collect()
    }),
    ("answers to pings that were not sent", true, |_| {
        (0..10_000)
            .flat_map(|value| header(PING, ACK, 0, value))
            .collect()
    }),
    ("resets and ends of streams that are none", false, |_| {
        (0..10_000)
            .flat_map(|stream| {
                header(
                    DATA,
                    if stream % 2 == 0 { RST } else { FIN },
                    2 * stream + 1001,
                    0,
                )
            })
            .collect()
    }),
    ("credit and data for streams that are none", false, |_| {
        let frames = (0..10_000).flat_map(|stream| {
            [
                header(WINDOW_UPDATE, 0, 2 * stream + 1001, u32::MAX).to_vec(),
                data(ACK, 2 * stream + 1001, b"data"),
            ]
        });
        frames.flatten().collect()
    }),
    ("credit of nothing", false, |stream| {
        header(WINDOW_UPDATE, 0, stream, 0).repeat(20_000)
    }),
    ("streams opened and reset at once", false, |_| {
        (0..20_000)
            .flat_map(|stream| {
                let number = 2 * stream + 1001;
                [header(DATA, SYN, number, 0), header(DATA, RST, number, 0)].concat()
            })
            .collect()
    }),
    ("all flags at once", false, |_| {
        (0..10_000)
            .flat_map(|stream| header(DATA, SYN | ACK | FIN | RST, 2 * stream + 1001, 0))
            .collect()
    }),
];

pub fn frames_that_no_honest_peer_sends() {
    let scene = Scene::new(&[]);
    let mut random = Random::new("frames_that_no_honest_peer_sends");
    scene.under("broken frames", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut rounds = 0;
        while rounds == 0 || crowd.rounds() < start + ENOUGH {
            for (what, ends, frames) in ATTACKS {
                let (mut peer, stream) = with_stream(&scene.victim);
                let told = peer.discard();
                // The daemon may end the connection before it has read all.
                let sent = peer.pipe.write_all(&frames(stream));
                if *ends {
                    let ended = eventually(PATIENCE, || told.is_ended());
                    assert!(ended, "{what}: the connection stays");
                } else {
                    sent.expect(what);
                    // What comes behind it is served.
                    peer.pipe
                        .write_all(&data(0, stream, what.as_bytes()))
                        .expect(what);
                    let again = messages(&[MULTISTREAM, "/none"]);
                    peer.open(&again).expect(what);
                    assert!(!told.is_ended(), "{what}: the connection ends");
                }
            }
            // Any bytes at all in place of frames.
            let (mut peer, _) = with_stream(&scene.victim);
            let len = 1 + random.below(100_000);
            let _ = peer.pipe.write_all(&random.bytes(len));
            rounds += 1;
        }
        println!("{rounds} times {} kinds of frames", ATTACKS.len() + 1);
    });
}

pub fn pings_without_end() {
    let scene = Scene::new(&[]);
    scene.under("pings", Streams::New, |crowd| {
        let start = crowd.rounds();
        let pings: Vec<u8> = (0..10_000)
            .flat_map(|value| header(PING, SYN, 0, value))
            .collect();
        // One reads the answers, one does not.
        let (mut reader, mut deaf) = (
            ByHand::connect(&scene.victim),
            ByHand::connect(&scene.victim),
        );
        let told = reader.discard();
        let mut sent = 0_u64;
        let mut stuck = false;
        deaf.pipe
            .socket
            .set_timeout(Duration::from_millis(200))
            .expect("set a timeout");
        while sent < 1_000_000 || crowd.rounds() < start + ENOUGH {
            reader.pipe.write_all(&pings).expect("the connection stays");
            sent += 10_000;
            stuck = stuck || deaf.pipe.write_all(&pings).is_err();
        }
        // The daemon does not read on from whoever does not take its answers.
        assert!(stuck, "pings are taken without end");
        // Whoever listens has them all.
        assert!(eventually(PATIENCE, || told.bytes() >= 12 * sent));
        println!("{sent} pings, {} bytes of answers", told.bytes());
    });
}
