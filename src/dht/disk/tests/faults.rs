//! Disks that are slow, full or lost, and the limits of the tables.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Builder, Database, StorageBackend, backends::InMemoryBackend};
use tokio::time::timeout;

use super::{
    super::{
        super::store::{Holder, Store},
        tables::Limits,
    },
    *,
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

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
