//! multistream-select as no honest peer speaks it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::*;
use crate::support::by_hand::{self, ByHand, DATA, MULTISTREAM, RST, data, messages};
use crate::support::raw;

/// What is said on a stream; whether it is reset for that.
fn sayings() -> Vec<(&'static str, Vec<u8>)> {
    let header = messages(&[MULTISTREAM]);
    let with = |rest: Vec<u8>| [header.clone(), rest].concat();
    let names: Vec<u8> = (0..10_000)
        .flat_map(|number| messages(&[&format!("/none/{number}")]))
        .collect();
    vec![
        ("10,000 proposals", with(names)),
        ("10,000 times ls", with(messages(&["ls"]).repeat(10_000))),
        (
            "a name of 16 KiB",
            with(raw::frame(&[vec![b'/'; 16 << 10], vec![b'\n']].concat())),
        ),
        ("a message of 2 GiB", with(raw::varint(2 << 30))),
        ("a length without end", with(vec![0xff; 100])),
        ("no line end", with(raw::frame(b"/echo/1.0.0"))),
        ("no header", messages(&["/echo/1.0.0"])),
        ("no text", with(raw::frame(b"/\xff\xfe\0\n").repeat(200))),
        ("10,000 headers", header.repeat(10_000)),
    ]
}

pub fn proposals_without_end() {
    let scene = Scene::new(&[]);
    scene.under("proposals", Streams::New, |crowd| {
        let start = crowd.rounds();
        let (mut resets, mut said) = (0, 0);
        while said == 0 || crowd.rounds() < start + ENOUGH {
            for (what, bytes) in sayings() {
                // On a stream; a piece at a time, since the window is finite.
                let mut peer = ByHand::connect(&scene.victim);
                let number = peer.open(&bytes[..bytes.len().min(32 << 10)]).expect(what);
                said += 1;
                let reset = loop {
                    let frame = peer
                        .receive()
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    if frame.stream == number && frame.flags & RST != 0 {
                        break true;
                    }
                    if frame.stream == number
                        && frame.kind == DATA
                        && frame.flags & by_hand::FIN != 0
                    {
                        break false;
                    }
                };
                resets += usize::from(reset);
                assert!(reset, "{what}: the stream is not reset");
                // And before there is any stream, where it ends the connection.
                let mut pipe = by_hand::dial(&scene.victim);
                let _ = pipe.write_all(&bytes);
                let _ = pipe.socket.shutdown_write();
                let mut answers = Vec::new();
                // A reset is an end as well.
                let _ = pipe.read_to_end(&mut answers);
                assert!(
                    answers.len() < 1 << 20,
                    "{what}: {} bytes of answers",
                    answers.len()
                );
            }
        }
        println!("{said} streams, {resets} resets");
    });
}

pub fn streams_that_never_say_what_they_are() {
    const STREAMS: u64 = 1000;
    const TIMEOUTS: &str = "streams without a protocol proposal in time";
    let scene = Scene::new(&[]);
    scene.under("silent streams", Streams::New, |crowd| {
        let started = Instant::now();
        let before = scene.victim.bites(TIMEOUTS);
        let mut peer = ByHand::connect(&scene.victim);
        let told = peer.discard();
        for number in 0..STREAMS {
            // Nothing, a part of a message, or a header and then nothing.
            let said = messages(&[MULTISTREAM]);
            let len = [0, 7, said.len()][usize::try_from(number % 3).expect("small")];
            let stream = peer.open(&said[..len]).expect("open");
            peer.pipe.write_all(&data(0, stream, b"")).expect("write");
        }
        crowd.await_rounds(ENOUGH);
        let over = || scene.victim.bites(TIMEOUTS) - before == STREAMS;
        assert!(
            eventually(support::PATIENCE, over),
            "they are waited for without end"
        );
        let took = started.elapsed();
        assert!(took > Duration::from_secs(9), "{took:?}");
        assert!(!told.is_ended(), "the connection was ended");
    });
}
