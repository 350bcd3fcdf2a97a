//! Addresses at which nobody answers. In a network namespace that routes them to nowhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use super::*;
use crate::support::PATIENCE;

/// Raw dials at once.
const MAX: usize = 256;

const CLIENTS: u8 = 30;
const ADDRESSES: u8 = 20;

/// Sockets in this namespace that have sent a SYN and wait, to silent addresses. The kernel lists
/// them page by page, so that a socket may be seen beside the one that took its place: the least of
/// three looks counts.
fn waiting_sockets() -> usize {
    let looks = std::iter::repeat_with(|| {
        let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the kernel's table");
        table.lines().filter(is_silent).count()
    });
    looks.take(3).min().unwrap_or(0)
}

fn is_silent(line: &&str) -> bool {
    let mut words = line.split_whitespace().skip(2);
    let remote = words.next().unwrap_or_default();
    // 10.77.0.0/16, the last byte first, and SYN_SENT.
    remote.get(4..8) == Some("4D0A") && words.next() == Some("02")
}

/// Clients dial 600 addresses that swallow packets. There are 256 sockets at most, and everybody
/// gets an answer, also who dials a peer that lives.
pub fn silent_addresses_take_256_sockets_at_most() {
    let scene = Scene::new(&[]);
    let live = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    scene.under("silent addresses", Streams::New, |_| {
        let (begun, answered) = (Instant::now(), AtomicUsize::new(0));
        let mut most = 0;
        std::thread::scope(|threads| {
            for number in 0..CLIENTS {
                let answered = &answered;
                let mut client = scene.victim.client();
                threads.spawn(move || {
                    let address = |last| format!("/ip4/10.77.{number}.{last}/tcp/4001");
                    let addresses: Vec<Multiaddr> = (1..=ADDRESSES)
                        .map(|last| address(last).parse().expect("an address"))
                        .collect();
                    let error = client.connect_to(PeerId::random(), &addresses);
                    // Counted also if it is another one than it should be.
                    answered.fetch_add(1, Ordering::Relaxed);
                    let error = error.expect_err("nobody is there");
                    assert!(error.contains("all dials failed"), "{error}");
                });
            }
            let full = eventually(PATIENCE, || {
                most = most.max(waiting_sockets());
                most >= MAX
            });
            // While no socket is left.
            let mut client = scene.victim.client();
            let honest = threads.spawn(move || {
                let begun = Instant::now();
                let done = client.connect_to(live.peer_id(), live.addrs());
                (done, begun.elapsed())
            });
            let all = eventually(PATIENCE, || {
                most = most.max(waiting_sockets());
                answered.load(Ordering::Relaxed) == usize::from(CLIENTS)
            });
            let (done, took) = honest.join().expect("a client");
            println!(
                "{most} sockets at most, a live peer reached after {took:?}, all answered after {:?}",
                begun.elapsed()
            );
            assert!(full && most <= MAX, "{most} sockets");
            done.expect("CONNECT to a peer that lives");
            assert!(all, "{answered:?} of {CLIENTS} are answered");
        });
    });
}
