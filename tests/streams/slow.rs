//! Ends that do not read cost themselves.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::*;
use crate::support::payload;

/// Fills every buffer behind `pipe`; how many bytes they took.
fn fill(pipe: &mut Pipe) -> usize {
    pipe.socket
        .set_timeout(Duration::from_millis(100))
        .expect("set a timeout");
    let chunk = vec![1; 64 << 10];
    let mut taken = 0;
    loop {
        match pipe.write(&chunk) {
            Ok(n) => taken += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return taken;
            }
        }
    }
}

#[test]
fn a_hundred_stuck_streams_hold_up_nobody_else() {
    let (a, b, handler) = pair();
    let before = (a.rss_kib(), b.rss_kib());
    let mut stuck = Vec::new();
    for _ in 0..100 {
        stuck.push(stream(&a, &b, &handler));
    }
    let taken: Vec<usize> = std::thread::scope(|scope| {
        let fills: Vec<_> = stuck
            .iter_mut()
            .map(|(near, _)| scope.spawn(move || fill(near)))
            .collect();
        fills
            .into_iter()
            .map(|fill| fill.join().expect("no panic"))
            .collect()
    });
    // They are stuck: each took some buffers and no more.
    assert!(
        taken
            .iter()
            .all(|taken| *taken > 64 << 10 && *taken < 8 << 20),
        "{taken:?}"
    );

    let mut slowest = Duration::ZERO;
    for round in 0..100 {
        let started = Instant::now();
        let (near, mut far) = stream(&a, &b, &handler);
        let sent = payload(50_000, round);
        let echo = std::thread::spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).expect("read");
            far.write_all(&got).expect("write");
        });
        assert!(near.exchange(&sent) == sent);
        echo.join().expect("the echo");
        slowest = slowest.max(started.elapsed());
        let _ = a.client().identify();
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for (daemon, before) in [(&a, before.0), (&b, before.1)] {
        let grown = daemon.rss_kib().saturating_sub(before);
        // Per stuck stream the window of the muxer, which starts at 256 KiB, and a chunk.
        assert!(grown < 100 * 1024, "RSS grew by {grown} KiB");
        println!("RSS grew by {grown} KiB with 100 stuck streams");
    }

    // Reading again loses nothing.
    for ((near, mut far), taken) in stuck.into_iter().zip(taken) {
        drop(near);
        let mut got = Vec::new();
        far.read_to_end(&mut got).expect("the rest");
        assert_eq!(got.len(), taken);
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    let (a, b, handler) = pair();
    let (mut near, mut far) = stream(&a, &b, &handler);
    let sent = payload(4 << 20, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            near.write_all(&sent).expect("write");
            near.socket.shutdown_write().expect("half-close");
        });
        // Small reads, far slower than the writer.
        let mut got = Vec::new();
        let mut chunk = [0; 1500];
        loop {
            match far.read(&mut chunk).expect("read") {
                0 => break,
                n => got.extend_from_slice(&chunk[..n]),
            }
            std::thread::yield_now();
        }
        assert!(got == sent, "{} bytes", got.len());
    });
}
