//! Private networks (COMPATIBILITY.md 1.12): who has the key talks, who has not does not.

use std::fs;
use std::io::{Read as _, Write as _};

use super::*;
use crate::support::Launch;

/// A key file whose key is this byte, 32 times.
fn key(dir: &tempfile::TempDir, byte: &str) -> String {
    let path = dir.path().join(byte);
    let text = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", byte.repeat(32));
    fs::write(&path, text).expect("write a key");
    format!("-pnetKey={}", path.display())
}

fn member(key: &str) -> Daemon {
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0/ws";
    Launch::new().args([listen, key]).spawn()
}

#[test]
fn members_exchange_streams_over_each_transport() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = key(&dir, "a1");
    for transport in 0..2 {
        let (a, b, handler) = pair_with(|| member(&key));
        let mut client = a.client();
        client.disconnect(b.peer_id());
        client.connect_peer(b.peer_id(), &b.addrs()[transport..=transport]);
        let (mut near, mut far) = stream(&a, &b, &handler);
        near.write_all(b"among us").expect("write");
        let mut read = [0; 8];
        far.read_exact(&mut read).expect("read");
        assert_eq!(&read, b"among us");
    }
}

#[test]
fn outsiders_get_no_connection_in_either_direction() {
    let dir = tempfile::tempdir().expect("a directory");
    let inside = member(&key(&dir, "a1"));
    let stranger = node();
    let others = member(&key(&dir, "b2"));
    for outside in [&stranger, &others] {
        for (from, to) in [(outside, &inside), (&inside, outside)] {
            let dialed = from.client().connect_to(to.peer_id(), &to.addrs()[..1]);
            assert!(dialed.is_err(), "{dialed:?}");
        }
        assert_eq!(inside.client().list_peers(), []);
        assert_eq!(outside.client().list_peers(), []);
    }
}

/// It would be a way out of the network.
#[test]
fn a_quic_address_of_a_peer_is_not_dialed() {
    let dir = tempfile::tempdir().expect("a directory");
    let inside = member(&key(&dir, "a1"));
    let quic = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1"]);
    let dialed = inside.client().connect_to(quic.peer_id(), quic.addrs());
    let error = dialed.expect_err("no way out");
    assert!(error.contains("no transport for protocol"), "{error}");
}
