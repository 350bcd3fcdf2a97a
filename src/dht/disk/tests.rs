mod faults;
mod refusals;

use std::{path::PathBuf, time::Duration};

use libp2p::identity::Keypair;
use tempfile::TempDir;

use super::*;

fn peer() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

/// A moment that survives being written in milliseconds.
fn ago(seconds: u64) -> SystemTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = u64::try_from(now.unwrap().as_millis()).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis) - Duration::from_secs(seconds)
}

fn addresses(n: u16) -> Vec<Multiaddr> {
    let address = |port| format!("/ip4/1.2.3.4/tcp/{port}").parse().unwrap();
    (1..=n).map(address).collect()
}

fn record(key: &str, value: &'static str, received: SystemTime) -> StoredRecord {
    StoredRecord {
        key: key.into(),
        value: Bytes::from_static(value.as_bytes()),
        received,
        origin: ChangeOrigin::Client,
    }
}

fn put(disk: &Disk, key: &str, value: &'static str, received: SystemTime) {
    let value = Bytes::from_static(value.as_bytes());
    disk.put_record(ChangeOrigin::Client, key.as_bytes(), &value, received);
}

fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    (dir, path)
}

#[tokio::test]
async fn what_was_written_is_there_again() {
    let (_dir, path) = dir();
    let (disk, contents) = Disk::open(&path).unwrap();
    assert_eq!(contents, Contents::default());
    let (one, other, time) = (peer(), peer(), ago(60));
    put(&disk, "a", "1", time);
    put(&disk, "b", "", time);
    put(&disk, "c", "gone", time);
    put(&disk, "a", "2", ago(5));
    disk.put_provider(ChangeOrigin::Peer, b"k", one, &addresses(2), time);
    disk.put_provider(ChangeOrigin::Peer, b"k", other, &[], time);
    disk.put_provider(ChangeOrigin::Peer, b"l", other, &[], time);
    disk.put_peer(one, &addresses(1), ago(99));
    disk.put_peer(other, &addresses(3), ago(9));
    disk.flush().await;
    disk.remove_record(b"c");
    disk.remove_record(b"never there");
    disk.remove_provider(b"l", other);
    disk.put_provider(ChangeOrigin::Client, b"k", other, &addresses(1), ago(3));
    // Without a flush: closing writes what waits.
    drop(disk);
    let (disk, mut contents) = Disk::open(&path).unwrap();
    assert_eq!(contents.records.len(), 2);
    assert_eq!(contents.records[0].value, "2");
    assert_eq!(contents.records[1], record("b", "", time));
    contents
        .providers
        .sort_by_key(|provider| provider.provider != one);
    let [first, second] = &contents.providers[..] else {
        panic!("{contents:?}")
    };
    assert_eq!((first.provider, &first.addresses), (one, &addresses(2)));
    assert_eq!((second.provider, &second.addresses), (other, &addresses(1)));
    assert_eq!((&first.key[..], first.received), (&b"k"[..], time));
    assert_eq!(
        (first.origin, second.origin),
        (ChangeOrigin::Peer, ChangeOrigin::Client)
    );
    let peers: Vec<PeerId> = contents.peers.iter().map(|peer| peer.peer).collect();
    assert_eq!(peers, [other, one], "the latest first");
    disk.remove_peer(other);
    drop(disk);
    let (_, contents) = Disk::open(&path).unwrap();
    assert_eq!(contents.peers.len(), 1);
}

#[test]
fn what_is_too_old_is_forgotten_and_no_clock_makes_it_younger() {
    const HOUR: u64 = 60 * 60;
    let (_dir, path) = dir();
    let (disk, _) = Disk::open(&path).unwrap();
    let (one, other) = (peer(), peer());
    put(&disk, "old", "x", ago(49 * HOUR));
    put(&disk, "young", "x", ago(47 * HOUR));
    put(
        &disk,
        "future",
        "x",
        SystemTime::now() + 9 * Duration::from_secs(HOUR),
    );
    disk.put_provider(ChangeOrigin::Peer, b"k", one, &[], ago(49 * HOUR));
    disk.put_provider(ChangeOrigin::Peer, b"k", other, &[], ago(47 * HOUR));
    disk.put_peer(one, &[], ago(1000 * HOUR));
    drop(disk);
    for _ in 0..2 {
        let (_disk, contents) = Disk::open(&path).unwrap();
        let keys: Vec<&[u8]> = contents.records.iter().map(|r| &r.key[..]).collect();
        assert_eq!(keys, [&b"future"[..], b"young"]);
        assert!(contents.records[0].received <= SystemTime::now());
        assert_eq!(contents.providers.len(), 1);
        assert_eq!(contents.providers[0].provider, other);
        assert_eq!(contents.peers.len(), 1);
    }
}
