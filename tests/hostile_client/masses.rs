//! Connections and registrations by the thousand.

use rp2pd::wire::pb::{Response, response};

use super::*;
use crate::support::{ControlClient, Launch, raw};

fn registration(addr: &[u8], name: &str, balanced: Option<bool>) -> Vec<u8> {
    let mut body = [raw::bytes(1, addr), raw::bytes(2, name.as_bytes())].concat();
    body.extend(balanced.map_or_else(Vec::new, |balanced| raw::int(3, balanced.into())));
    raw::frame(&[raw::int(1, 3), raw::bytes(4, &body)].concat())
}

/// Sends `requests` in batches and counts the OKs.
fn count_ok(client: &mut ControlClient, requests: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut accepted = 0;
    let requests: Vec<Vec<u8>> = requests.collect();
    for batch in requests.chunks(500) {
        client.send_raw(&batch.concat()).expect("send");
        for _ in batch {
            let answer: Response = client.receive().expect("an answer");
            accepted += usize::from(answer.r#type() == response::Type::Ok);
        }
    }
    accepted
}

#[test]
fn a_hundred_thousand_registrations_are_bounded() {
    let daemon = Daemon::spawn(&[]);
    let quiet = Quiet::of(&daemon);
    let mut client = daemon.client();
    let addr = b"\x90\x03\x0c/tmp/none.sk";
    // One name: each replaces the one before.
    let same = (0..34_000).map(|_| registration(addr, "/same", None));
    assert_eq!(count_ok(&mut client, same), 34_000);
    // As many names.
    let names = (0..33_000).map(|n| registration(addr, &format!("/name/{n}"), None));
    let accepted = count_ok(&mut client, names);
    assert!((1000..=5000).contains(&accepted), "{accepted} names");
    // One round robin.
    let round = (0..33_000).map(|_| registration(addr, "/round", Some(true)));
    let accepted = count_ok(&mut client, round);
    assert!(accepted <= 5000, "{accepted} slots");
    assert_quick(&daemon, "100,000 registrations");
    drop(client);
    quiet.assert_again(&daemon, "100,000 registrations");
}

#[test]
fn thousands_of_connections_are_served_or_wait() {
    for launch in [Launch::new(), Launch::new().tcp()] {
        let daemon = launch.spawn();
        let quiet = Quiet::of(&daemon);
        let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        // What the descriptors of this process admit beside those of other tests.
        let wanted = usize::try_from(limit / 4).unwrap_or(usize::MAX).min(10_000);
        let mut clients = Vec::with_capacity(wanted);
        while clients.len() < wanted {
            clients.push(daemon.client());
        }
        // Up to the daemon's own limit each of them is served.
        for client in clients.iter_mut().take(8000).step_by(50) {
            let _ = client.identify();
        }
        let held = daemon.rss_kib().saturating_sub(quiet.rss_kib);
        let per_client = 1024 * held / wanted as u64;
        println!("{wanted} connections: {per_client} bytes each");
        assert!(
            per_client < 18 << 10,
            "{per_client} bytes for an idle connection"
        );
        drop(clients);
        quiet.assert_again(&daemon, "thousands of connections");
    }
}

#[test]
fn connections_beyond_the_descriptors_wait_and_do_not_spin() {
    let daemon = limited(128);
    let quiet = Quiet::of(&daemon);
    for _ in 0..3 {
        let mut first = daemon.client();
        let mut clients: Vec<ControlClient> = (0..300).map(|_| daemon.client()).collect();
        assert!(
            eventually(std::time::Duration::from_secs(10), || daemon.fds() >= 64),
            "the descriptors were not used up to the reserve: {}",
            daemon.fds()
        );
        // The fault is there: the last client is not served.
        let last = clients.last_mut().expect("a client");
        last.pipe
            .socket
            .set_timeout(std::time::Duration::from_millis(1000))
            .expect("set a timeout");
        last.send_raw(&[2, 8, 0]).expect("send");
        let (ticks, started) = (daemon.cpu_ticks(), Instant::now());
        assert!(
            last.pipe.read_frame().is_err(),
            "more clients than descriptors"
        );
        let used = daemon.cpu_ticks() - ticks;
        let spent = started.elapsed().as_millis() / 10;
        assert!(
            u128::from(used) < spent / 5,
            "{used} of {spent} ticks while waiting"
        );
        // Those that were there before are served all the same.
        let _ = first.identify();
        drop((first, clients));
        let freed = Instant::now();
        let _ = daemon.client().identify();
        assert!(
            freed.elapsed() < Duration::from_secs(2),
            "{:?}",
            freed.elapsed()
        );
    }
    quiet.assert_again(&daemon, "descriptors used up");
}

/// A daemon that may open `descriptors` files.
fn limited(descriptors: u64) -> Daemon {
    Launch::new()
        .shell(&format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""))
        .spawn()
}
