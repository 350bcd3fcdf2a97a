use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use libp2p::identity::Keypair;
use proptest::prelude::*;
use redb::{Builder, Database, StorageBackend, backends::InMemoryBackend};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{
    super::store::{Holder, Store},
    tables::Limits,
    *,
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// A disk that can be stopped, and lost.
#[derive(Debug, Default)]
struct Faults {
    full: AtomicBool,
    stopped: Mutex<()>,
}

#[derive(Debug)]
struct Faulty {
    inner: InMemoryBackend,
    faults: Arc<Faults>,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.faults.stopped.lock().unwrap());
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write(offset, data)
    }
}

const FEW: Limits = Limits {
    records: 3,
    value_bytes: 100,
    providers: 2,
    peers: 2,
};

const MANY: Limits = Limits {
    records: 1 << 20,
    value_bytes: 1 << 30,
    providers: 1 << 20,
    peers: 1 << 20,
};

fn database(faults: &Arc<Faults>) -> Database {
    let backend = Faulty {
        inner: InMemoryBackend::new(),
        faults: faults.clone(),
    };
    Builder::new().create_with_backend(backend).unwrap()
}

fn changes(fill: impl FnOnce(&mut Changes)) -> Changes {
    let mut changes = Changes::default();
    fill(&mut changes);
    changes
}

#[test]
fn every_table_has_its_limit_and_removals_make_room() {
    let mut tables = Tables::with(database(&Arc::default()), FEW);
    let now = SystemTime::now();
    let said = |what| Said {
        origin: ChangeOrigin::Peer,
        time: now,
        what,
    };
    let value = |size: usize| {
        Some(Said {
            origin: ChangeOrigin::Peer,
            time: now,
            what: Bytes::from(vec![7; size]),
        })
    };
    let missed = tables.apply(changes(|changes| {
        for key in 0..5 {
            changes.records.insert(vec![key], value(1));
            let provider = (vec![key], peer());
            changes.providers.insert(provider, Some(said(Vec::new())));
            changes.peers.insert(peer(), Some(said(Vec::new())));
        }
        changes.records.insert(vec![9; 2000], value(1));
    }));
    assert_eq!(missed.unwrap(), 2 + 3 + 3 + 1);
    let contents = tables.contents();
    assert_eq!(contents.records.len(), 3);
    assert_eq!((contents.providers.len(), contents.peers.len()), (2, 2));
    // One goes, one comes, one stays as it is.
    let missed = tables.apply(changes(|changes| {
        changes
            .records
            .insert(contents.records[0].key.clone(), None);
        changes.records.insert(vec![10], value(1));
        changes
            .records
            .insert(contents.records[1].key.clone(), value(2));
        changes.peers.insert(contents.peers[0].peer, None);
        changes.peers.insert(peer(), Some(said(Vec::new())));
    }));
    assert_eq!(missed.unwrap(), 0);
    let keys: Vec<u8> = tables.contents().records.iter().map(|r| r.key[0]).collect();
    assert!(keys.contains(&10) && keys.len() == 3, "{keys:?}");
    // Bytes have a limit of their own; a value that is replaced counts once.
    let mut put = |key: u8, size: usize| {
        let change = |changes: &mut Changes| drop(changes.records.insert(vec![key], value(size)));
        tables.apply(changes(change)).unwrap()
    };
    assert_eq!(put(10, 40), 0);
    assert_eq!(put(10, 41), 0);
    assert_eq!(put(10, 99), 1, "with the rest that is more than 100");
    assert_eq!(put(10, 40), 0);
}

#[tokio::test]
async fn peers_that_are_faster_than_the_disk_do_not_fill_the_memory() {
    let faults = Arc::new(Faults::default());
    let tables = Tables::with(database(&faults), MANY);
    let disk = Disk::start(tables, "test".into()).unwrap();
    let stopped = faults.stopped.lock().unwrap();
    let value = Bytes::from(vec![7; 1 << 20]);
    let now = SystemTime::now();
    // One batch may be with the writer, which waits for the disk.
    for key in 0..100_u8 {
        disk.put_record(ChangeOrigin::Peer, &[key], &value, now);
    }
    assert!(disk.shared.state().changes.bytes <= MAX_WAITING);
    assert!(disk.missed() >= 100 - 2 * 32, "{}", disk.missed());
    put(&disk, "client", "value", now);
    let known = |disk: &Disk| {
        let state = disk.shared.state();
        state.changes.records.contains_key(&b"client"[..])
    };
    assert!(known(&disk));
    drop(stopped);
    timeout(PATIENCE, disk.flush()).await.unwrap();
    assert!(!known(&disk), "it is on disk");
}

#[tokio::test]
async fn a_lost_disk_keeps_nobody_waiting() {
    let faults = Arc::new(Faults::default());
    let tables = Tables::with(database(&faults), MANY);
    let disk = Disk::start(tables, "test".into()).unwrap();
    put(&disk, "a", "1", ago(1));
    timeout(PATIENCE, disk.flush()).await.unwrap();
    faults.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        put(&disk, "a", "2", ago(1));
        timeout(PATIENCE, disk.flush()).await.unwrap();
    }
    let state = disk.shared.state();
    assert!(state.failed);
    assert_eq!(state.changes.bytes, 0, "nothing collects any more");
}

#[tokio::test]
async fn changes_are_written_without_being_asked_for() {
    let tables = Tables::with(database(&Arc::default()), MANY);
    let disk = Disk::start(tables, "test".into()).unwrap();
    put(&disk, "a", "1", ago(1));
    let mut written = disk.shared.written.subscribe();
    let on_disk = timeout(PATIENCE, written.wait_for(|written| *written == 1)).await;
    assert!(on_disk.is_ok());
}

fn refused(path: &Path) -> String {
    let error = Disk::open(path).unwrap_err();
    error.to_string().replace(path.to_str().unwrap(), "PATH")
}

#[test]
fn refusals_say_what_to_do() {
    let (dir, path) = dir();
    let hint = "it must be a file that the daemon may read and write, in a directory that exists";
    assert_eq!(
        refused(dir.path()),
        format!("datastore PATH: is a directory: {hint}")
    );
    assert_eq!(
        refused(&path.join("below")),
        format!("datastore PATH: no such file or directory: {hint}")
    );
    let foreign = "datastore PATH is another program's file: name one that does not exist yet";
    for content in [&b""[..], b"redb", b"#!/bin/sh\nexit 0\n"] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(refused(&path), foreign);
        assert_eq!(fs::read(&path).unwrap(), content, "untouched");
    }
    fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(refused(&path), foreign);
    assert_eq!(refused(Path::new("/dev/null")), foreign);
    fs::remove_file(&path).unwrap();

    let (disk, _) = Disk::open(&path).unwrap();
    assert_eq!(
        refused(&path),
        "datastore PATH is in use by another daemon: give each one its own"
    );
    drop(disk);
    fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
    assert_eq!(
        refused(&path),
        "datastore PATH can be changed by others: mode 0620, 0600 is enough"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length / 2).unwrap();
    let text = refused(&path);
    assert!(text.starts_with("datastore PATH is damaged ("), "{text}");
    assert!(
        text.ends_with("): move it away to start with an empty one"),
        "{text}"
    );
}

#[test]
fn a_full_disk_at_the_start_gets_advice_of_its_own() {
    let full = DiskError::file(Path::new("PATH"), &io::Error::from_raw_os_error(28));
    assert_eq!(
        full.to_string(),
        "datastore PATH: no space left on device: make room, or name another place"
    );
}

#[test]
fn a_new_file_is_its_owners_alone_and_leaves_nothing_beside_it() {
    let (dir, path) = dir();
    let disk = Disk::open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    drop(disk);
}

/// A store of some size, and what it holds.
fn filled() -> (Vec<u8>, Contents) {
    let (_dir, path) = dir();
    let (disk, _) = Disk::open(&path).unwrap();
    for key in 0..300_u32 {
        let value = Bytes::from(vec![7; key as usize]);
        disk.put_record(ChangeOrigin::Client, &key.to_be_bytes(), &value, ago(1));
        disk.put_provider(
            ChangeOrigin::Peer,
            &key.to_be_bytes(),
            peer(),
            &addresses(2),
            ago(1),
        );
    }
    drop(disk);
    let (disk, contents) = Disk::open(&path).unwrap();
    drop(disk);
    (fs::read(&path).unwrap(), contents)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever happened to the file: all that was in it, or a refusal.
    #[test]
    fn a_damaged_file_is_refused_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        keep in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        static FILLED: std::sync::LazyLock<(Vec<u8>, Contents)> =
            std::sync::LazyLock::new(filled);
        let (bytes, contents) = &*FILLED;
        let mut bytes = bytes.clone();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bit;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        let (_dir, path) = dir();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if let Ok((_disk, read)) = Disk::open(&path) {
            prop_assert_eq!(&read, contents);
        }
    }
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the disk hangs on it for as long as the test waits"
)]
async fn a_disk_that_hangs_does_not_delay_the_end() {
    let faults = Arc::new(Faults::default());
    let tables = Tables::with(database(&faults), MANY);
    let hung = faults.stopped.lock().unwrap();
    let disk = Disk::start(tables, PathBuf::new()).unwrap();
    let (store, _) = Store::restored(usize::MAX, disk, Contents::default());
    store.put_record(Holder::Own, b"key", b"value");
    let flush = timeout(Duration::from_millis(200), store.flush()).await;
    assert!(flush.is_err(), "the disk does not hang");
    let close = store.close_within(Duration::from_millis(200));
    let closed = timeout(Duration::from_secs(30), close).await;
    drop(hung);
    assert!(closed.is_ok(), "waits for the disk");
}
