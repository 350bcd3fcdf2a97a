//! Clients that read or write next to nothing.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::support::{Handler, PATIENCE, Pipe, payload};

/// How many of each kind.
const WRITERS: usize = 100;
const READERS: usize = 100;
const SUBSCRIBERS: usize = 50;

/// What each of the readers is sent, if it only took it.
const STREAM: usize = 100 << 20;

/// Takes or gives what can be had at this moment.
fn at_once(pipe: &Pipe) {
    pipe.socket
        .set_timeout(Duration::from_millis(1))
        .expect("set a timeout");
}

pub fn readers_and_writers() {
    let seconds = std::env::var("RP2PD_TEST_SLOW_SECONDS");
    let seconds = seconds.ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let scene = Scene::new(&["-pubsub"]);
    let handler = Handler::unix();
    handler
        .register(&mut scene.other.client(), &["/slow"], None)
        .expect("register");
    let open = || {
        let opened = scene
            .victim
            .client()
            .open_stream(scene.other.peer_id(), &["/slow"]);
        let near = opened.expect("open").1;
        let far = handler.accept(PATIENCE).expect("the stream").1;
        at_once(&near);
        at_once(&far);
        (near, far)
    };
    scene.under("slow clients", Streams::New, |crowd| {
        let mut writers: Vec<_> = (0..WRITERS).map(|_| open()).collect();
        let mut unread: Vec<_> = (0..READERS).map(|_| (open(), 0_usize)).collect();
        let subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| scene.victim.subscribe("t"))
            .collect();
        let over = AtomicBool::new(false);
        let published = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut client = scene.victim.client();
                let data = payload(16 << 10, 3);
                let mut published = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    client.publish("t", &data).expect("PUBLISH");
                    published += 1;
                    // A rate, not an event that is waited for.
                    std::thread::sleep(Duration::from_millis(2));
                }
                published
            });
            let chunk = payload(64 << 10, 1);
            let mut full = 0;
            let started = Instant::now();
            let (mut second, mut written) = (0, 0_usize);
            let mut settled = None;
            while started.elapsed() < Duration::from_secs(seconds) {
                // What the streams take that nobody reads.
                full = 0;
                for ((_, far), sent) in &mut unread {
                    match far.write(&chunk) {
                        Ok(n) => *sent += n,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            full += 1;
                        }
                    }
                    assert!(*sent < STREAM, "a stream takes more than anybody reads");
                }
                if started.elapsed().as_secs() >= second {
                    second += 1;
                    for (near, _) in &mut writers {
                        near.write_all(&[7]).expect("a byte a second");
                        written += 1;
                    }
                }
                if full == READERS && settled.is_none() && second > 1 {
                    settled = Some(scene.victim.rss_kib());
                }
            }
            let rss = scene.victim.rss_kib();
            let settled = settled.expect("the streams never filled");
            let taken: usize = unread.iter().map(|(_, sent)| *sent).sum();
            println!(
                "{full} full streams took {} KiB each, {written} single bytes; RSS {settled} KiB \
                 when they were full, {rss} KiB after {seconds} s",
                taken / READERS / 1024
            );
            assert_eq!(full, READERS);
            let grown = rss.saturating_sub(settled);
            assert!(grown < 16 << 10, "RSS grew by {grown} KiB");
            crowd.await_rounds(ENOUGH);
            over.store(true, Ordering::Relaxed);
            publisher.join().expect("the publisher")
        });
        let lost = lost(&scene.victim);
        println!(
            "{published} messages for {SUBSCRIBERS} subscribers that do not read, {lost} lost"
        );
        assert!(lost > 1000, "the subscribers took {published} messages");
        // The bytes of those that wrote slowly have come.
        for (_, far) in &mut writers {
            let mut got = [0; 4];
            far.socket.set_timeout(PATIENCE).expect("set a timeout");
            far.read_exact(&mut got).expect("a byte a second");
        }
        drop(subscribers);
    });
}

/// Messages that subscribers did not take.
fn lost(daemon: &Daemon) -> u64 {
    let text = daemon.report();
    let (_, rest) = text
        .rsplit_once("lost by slow subscribers: ")
        .expect("a line");
    let number = rest.split(|c: char| !c.is_ascii_digit()).next();
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}
