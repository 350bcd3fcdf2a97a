//! A clock that jumps, by libfaketime.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::{exchange, length, serve_echo};
use crate::support::dht::cid;
use crate::support::{Daemon, Launch, PATIENCE, eventually, raw};

/// Where Debian and others install the library.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// Peers that are connected meanwhile.
const PEERS: usize = 5;

pub fn library() -> Option<PathBuf> {
    PLACES
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

/// The hour that a log line of `offset` seconds from now names.
fn hour(offset: i64) -> [String; 2] {
    let at = OffsetDateTime::now_utc() + time::Duration::seconds(offset);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let hour = at.hour();
    [
        format!("{year}-{month:02}-{day:02}T{hour:02}:"),
        format!("{year}/{month:02}/{day:02} {hour:02}:"),
    ]
}

/// Makes the daemon log a line of its own kind: `kind` counts the jumps.
fn log_something(daemon: &Daemon, kind: usize) {
    let bytes = match kind {
        0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        _ => raw::varint(1 << 40),
    };
    daemon.client().send_raw(&bytes).expect("send");
}

pub fn jumps_cost_nothing() {
    let time = length().expect("a length").max(Duration::from_secs(35)) / 2;
    let library = library().expect("libfaketime");
    let dir = tempfile::tempdir().expect("a directory");
    let offset = dir.path().join("offset");
    std::fs::write(&offset, "+0\n").expect("write");
    let near = Launch::new()
        .args(["-dhtServer", "-pubsub", "-hostAddrs=/ip4/10.9.0.1/tcp/0"])
        .env("LD_PRELOAD", library.to_str().expect("a path"))
        .env("FAKETIME_TIMESTAMP_FILE", offset.to_str().expect("a path"))
        .env("FAKETIME_NO_CACHE", "1")
        // Clocks that measure do not jump.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("TZ", "UTC")
        .env("GOLOG_LOG_LEVEL", "warn")
        .spawn();
    let peers: Vec<Daemon> = (0..PEERS)
        .map(|_| {
            let peer = Daemon::spawn(&["-dhtServer", "-pubsub", "-hostAddrs=/ip4/10.9.0.2/tcp/0"]);
            near.connect_to(&peer);
            serve_echo(&peer);
            peer
        })
        .collect();
    let content = cid(b"before the jump");
    peers[0].client().provide(&content).expect("PROVIDE");
    for (kind, (text, seconds)) in [("+1d", 86_400), ("-1h", -3600)].into_iter().enumerate() {
        std::fs::write(&offset, format!("{text}\n")).expect("write");
        // The fault took place: the log tells another time.
        let before = near.stderr().len();
        log_something(&near, kind);
        let jumped = eventually(PATIENCE, || {
            let said = near.stderr().split_off(before);
            hour(seconds).iter().any(|hour| said.contains(hour))
        });
        assert!(jumped, "no jump: {}", near.stderr());
        let begun = Instant::now();
        let mut exchanges = 0;
        while begun.elapsed() < time {
            let connected = near.client().list_peers().len();
            assert_eq!(
                connected,
                PEERS,
                "{text}: peers are gone after {:?}",
                begun.elapsed()
            );
            for peer in &peers {
                exchange(&near, peer, exchanges).expect("an exchange");
                exchanges += 1;
            }
        }
        let found = near
            .client()
            .find_providers(&content, Some(1))
            .expect("found");
        assert_eq!(found[0].0, peers[0].peer_id());
        println!(
            "{text}: {PEERS} peers stay, {exchanges} exchanges in {:.1?}",
            begun.elapsed()
        );
    }
    assert!(!near.stderr().contains("panic"), "{}", near.stderr());
}
