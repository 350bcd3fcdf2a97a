//! A peer that is killed and comes back with the same id, on its port or on another, while others
//! still hold a connection to it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::support::{Launch, eventually};

/// What a client waits for.
const CLIENT: Duration = Duration::from_secs(5);

/// A daemon with the key in `key`, at `address`.
fn launched(key: &Path, address: &str) -> Daemon {
    let id = format!("-id={}", key.display());
    let at = format!("-hostAddrs={address}");
    Launch::new()
        .args(["-createIdentity".to_owned(), id, at])
        .spawn()
}

/// Opens a stream to `b` and hears its echo.
fn echoes(a: &Daemon, b: &Daemon) {
    let begun = Instant::now();
    let opened = a.client().open_stream(b.peer_id(), &["/echo/1.0.0"]);
    let (_, pipe) = opened.expect("open");
    assert_eq!(pipe.exchange(b"hello"), b"hello");
    assert!(begun.elapsed() < CLIENT, "{:?}", begun.elapsed());
}

fn come_back(over: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("key");
    let any = format!("/ip4/127.0.0.1/{over}").replace("PORT", "0");
    let a = Daemon::spawn(&[&format!("-hostAddrs={any}")]);
    let mut b = launched(&key, &any);
    let (id, at) = (b.peer_id(), b.addrs()[0].to_string());
    a.connect_to(&b);
    for address in [&at, &any, &at] {
        // Without a word.
        drop(b);
        b = launched(&key, address);
        assert_eq!(b.peer_id(), id);
        // The old port may be all that is known of it.
        if address == &at {
            echoes(&a, &b);
        }
        let begun = Instant::now();
        let connected = a.client().connect_to(id, b.addrs());
        let took = begun.elapsed();
        assert!(
            connected.is_ok() && took < CLIENT,
            "{address} {took:?}: {connected:?}"
        );
        echoes(&a, &b);
        let one = || b.client().list_peers().len() == 1;
        assert!(
            eventually(CLIENT, one),
            "{address}: it does not know who speaks"
        );
    }
}

#[test]
fn by_tcp() {
    come_back("tcp/PORT");
}

#[test]
fn by_websocket() {
    come_back("tcp/PORT/ws");
}
