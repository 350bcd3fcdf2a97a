//! What is where in a datastore.

use std::{
    cmp::Reverse,
    collections::HashMap,
    path::Path,
    time::{Duration, SystemTime},
};

use libp2p::{Multiaddr, PeerId};
use prost::Message;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, TableError,
};

use super::{
    ChangeOrigin, Contents, DiskError, StoredPeer, StoredProvider, StoredRecord,
    changes::{Change, Changes, Said},
};

use crate::fixed_limits::fixed_limit;

/// The format that this version writes.
const VERSION: u64 = 1;

/// Records on disk.
const MAX_RECORDS: u64 = 131_072;
fixed_limit!("datastore: records", MAX_RECORDS);

/// Bytes of all values on disk.
const MAX_VALUE_BYTES: u64 = 128 << 20;
fixed_limit!("datastore: values of all records", bytes MAX_VALUE_BYTES);

/// Provider records on disk.
const MAX_PROVIDERS: u64 = 131_072;
fixed_limit!("datastore: provider records", MAX_PROVIDERS);

/// Good peers on disk.
const MAX_PEERS: u64 = 1024;
fixed_limit!("datastore: peers", MAX_PEERS);

/// Longest key, in bytes.
const MAX_KEY: usize = 1024;
fixed_limit!("datastore: key", bytes MAX_KEY);

/// Addresses kept of one peer.
const MAX_ADDRESSES: usize = 32;
fixed_limit!("datastore: addresses of one peer", MAX_ADDRESSES);

/// Life of a record and of a provider record, as in Go.
const MAX_AGE: Duration = Duration::from_secs(48 * 60 * 60);

/// A file this large may be worth to be made smaller, in bytes.
const COMPACT_ABOVE: u64 = 64 << 20;

/// `version` of the format.
const META: TableDefinition<&str, u64> = TableDefinition::new("rp2pd");

/// By key.
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");

/// By key and provider.
const PROVIDERS: TableDefinition<(&[u8], &[u8]), &[u8]> = TableDefinition::new("providers");

/// By peer.
const PEERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("peers");

/// A row of any table but the first.
#[derive(Message)]
struct Row {
    /// Milliseconds since 1970.
    #[prost(uint64, tag = "1")]
    time: u64,
    #[prost(bytes = "bytes", tag = "2")]
    value: bytes::Bytes,
    #[prost(bytes = "vec", repeated, tag = "3")]
    addresses: Vec<Vec<u8>>,
    /// Brought by a client of this daemon.
    #[prost(bool, tag = "4")]
    own: bool,
}

impl Row {
    fn origin(&self) -> ChangeOrigin {
        if self.own {
            ChangeOrigin::Client
        } else {
            ChangeOrigin::Peer
        }
    }
}

/// How much a datastore may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) records: u64,
    pub(super) value_bytes: u64,
    pub(super) providers: u64,
    pub(super) peers: u64,
}

/// The limits of every datastore but those of tests.
const LIMITS: Limits = Limits {
    records: MAX_RECORDS,
    value_bytes: MAX_VALUE_BYTES,
    providers: MAX_PROVIDERS,
    peers: MAX_PEERS,
};

/// An open datastore.
pub(super) struct Tables {
    database: Database,
    limits: Limits,
    /// Bytes of all rows of records.
    value_bytes: u64,
}

impl Tables {
    /// Makes empty tables.
    pub(super) fn create(database: &Database, path: &Path) -> Result<(), DiskError> {
        let create = || -> Result<(), redb::Error> {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            transaction.open_table(META)?.insert("version", VERSION)?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(PROVIDERS)?;
            transaction.open_table(PEERS)?;
            transaction.commit()?;
            Ok(())
        };
        create().map_err(|error| DiskError::damaged(path, error))
    }

    /// Reads everything, and removes what is too old.
    pub(super) fn load(mut database: Database, path: &Path) -> Result<(Self, Contents), DiskError> {
        check_version(&database, path)?;
        let damaged = |error: redb::Error| DiskError::damaged(path, error);
        let read = read(&database, SystemTime::now()).map_err(damaged)?;
        let size = std::fs::metadata(path).map_err(|error| DiskError::file(path, error))?;
        if size.len() > COMPACT_ABOVE && size.len() / 4 > read.bytes {
            database.compact().map_err(|error| damaged(error.into()))?;
        }
        let mut tables = Self {
            database,
            limits: LIMITS,
            value_bytes: read.value_bytes,
        };
        if !read.old.is_empty() {
            tables.apply(read.old).map_err(damaged)?;
        }
        Ok((tables, read.contents))
    }

    /// Empty tables with limits of their own.
    #[cfg(test)]
    pub(super) fn with(database: Database, limits: Limits) -> Self {
        Self::create(&database, Path::new("")).unwrap();
        Self {
            database,
            limits,
            value_bytes: 0,
        }
    }

    /// Everything in them.
    #[cfg(test)]
    pub(super) fn contents(&self) -> Contents {
        read(&self.database, SystemTime::now()).unwrap().contents
    }

    /// Writes `changes`, all or none. Returns how many found no room.
    pub(super) fn apply(&mut self, changes: Changes) -> Result<u64, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // What peers send must not be able to fool the check of the other kind after a crash.
        transaction.set_two_phase_commit(true);
        let mut missed = 0;
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut bytes = self.value_bytes;
            for (key, change) in removals_first(changes.records) {
                let old = records.remove(&key[..])?;
                let old = old.map_or(0, |row| row.value().len() as u64);
                bytes = bytes.saturating_sub(old);
                let Some(said) = change else {
                    continue;
                };
                let row = row(&said, said.what.clone(), &[]);
                let size = row.len() as u64;
                if key.len() > MAX_KEY
                    || records.len()? >= self.limits.records
                    || bytes + size > self.limits.value_bytes
                {
                    missed += 1;
                    continue;
                }
                records.insert(&key[..], &row[..])?;
                bytes += size;
            }
            self.value_bytes = bytes;
            let mut providers = transaction.open_table(PROVIDERS)?;
            for ((key, peer), change) in removals_first(changes.providers) {
                let peer = peer.to_bytes();
                let row_key = (&key[..], &peer[..]);
                providers.remove(row_key)?;
                let Some(said) = change else {
                    continue;
                };
                let full = providers.len()? >= self.limits.providers;
                if key.len() > MAX_KEY || full {
                    missed += 1;
                    continue;
                }
                let row = row(&said, bytes::Bytes::new(), &said.what);
                providers.insert(row_key, &row[..])?;
            }
            let mut peers = transaction.open_table(PEERS)?;
            for (peer, change) in removals_first(changes.peers) {
                let peer = peer.to_bytes();
                peers.remove(&peer[..])?;
                let Some(said) = change else {
                    continue;
                };
                if peers.len()? >= self.limits.peers {
                    missed += 1;
                    continue;
                }
                let row = row(&said, bytes::Bytes::new(), &said.what);
                peers.insert(&peer[..], &row[..])?;
            }
        }
        transaction.commit()?;
        Ok(missed)
    }
}

/// Everything in a datastore.
#[derive(Default)]
struct Read {
    contents: Contents,
    /// What must go: too old, or not to be read.
    old: Changes,
    value_bytes: u64,
    /// Bytes of all rows, about.
    bytes: u64,
}

fn check_version(database: &Database, path: &Path) -> Result<(), DiskError> {
    let damaged = |error: redb::Error| DiskError::damaged(path, error);
    let transaction = database.begin_read();
    let transaction = transaction.map_err(|error| damaged(error.into()))?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(error)) => return Err(damaged(error.into())),
        // Another program's, which uses the same library.
        Err(_) => return Err(DiskError::Foreign(path.to_owned())),
    };
    let version = meta.get("version");
    let version = version.map_err(|error| damaged(error.into()))?;
    match version.map(|version| version.value()) {
        Some(VERSION) => Ok(()),
        Some(version) => Err(DiskError::Version {
            path: path.to_owned(),
            version,
        }),
        None => Err(DiskError::Foreign(path.to_owned())),
    }
}

fn read(database: &Database, now: SystemTime) -> Result<Read, redb::Error> {
    let mut read = Read::default();
    let transaction = database.begin_read()?;
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (key, bytes) = entry?;
        let (key, bytes) = (key.value(), bytes.value());
        let size = bytes.len() as u64;
        read.value_bytes += size;
        read.bytes += size + key.len() as u64;
        match Row::decode(bytes).ok().and_then(|row| young(row, now)) {
            Some((received, row)) => read.contents.records.push(StoredRecord {
                key: key.to_vec(),
                origin: row.origin(),
                value: row.value,
                received,
            }),
            None => drop(read.old.records.insert(key.to_vec(), None)),
        }
    }
    for entry in transaction.open_table(PROVIDERS)?.iter()? {
        let (key, bytes) = entry?;
        let ((key, peer), bytes) = (key.value(), bytes.value());
        read.bytes += (key.len() + peer.len() + bytes.len()) as u64;
        // Nothing but ids has ever been written there.
        let Ok(provider) = PeerId::from_bytes(peer) else {
            continue;
        };
        match Row::decode(bytes).ok().and_then(|row| young(row, now)) {
            Some((received, row)) => read.contents.providers.push(StoredProvider {
                key: key.to_vec(),
                provider,
                origin: row.origin(),
                addresses: addresses(row.addresses),
                received,
            }),
            None => drop(read.old.providers.insert((key.to_vec(), provider), None)),
        }
    }
    for entry in transaction.open_table(PEERS)?.iter()? {
        let (peer, bytes) = entry?;
        read.bytes += bytes.value().len() as u64;
        let peer = PeerId::from_bytes(peer.value());
        if let (Ok(peer), Ok(row)) = (peer, Row::decode(bytes.value())) {
            read.contents.peers.push(StoredPeer {
                peer,
                useful: time(row.time, now),
                addresses: addresses(row.addresses),
            });
        }
    }
    let peers = &mut read.contents.peers;
    peers.sort_by_key(|peer| Reverse(peer.useful));
    Ok(read)
}

/// A row with its time, unless it is too old.
fn young(row: Row, now: SystemTime) -> Option<(SystemTime, Row)> {
    let time = time(row.time, now);
    let age = now.duration_since(time).unwrap_or_default();
    (age < MAX_AGE).then_some((time, row))
}

/// A clock that was set back makes nothing live longer.
fn time(millis: u64, now: SystemTime) -> SystemTime {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    time.map_or(now, |time| time.min(now))
}

fn addresses(bytes: Vec<Vec<u8>>) -> Vec<Multiaddr> {
    let read = bytes.into_iter().map(Multiaddr::try_from);
    read.filter_map(Result::ok).collect()
}

fn row<T>(said: &Said<T>, value: bytes::Bytes, addresses: &[Multiaddr]) -> Vec<u8> {
    let millis = said.time.duration_since(SystemTime::UNIX_EPOCH);
    let row = Row {
        time: u64::try_from(millis.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
        value,
        addresses: addresses
            .iter()
            .take(MAX_ADDRESSES)
            .map(Multiaddr::to_vec)
            .collect(),
        own: said.origin == ChangeOrigin::Client,
    };
    row.encode_to_vec()
}

/// What goes makes room for what comes.
fn removals_first<K, T>(changes: HashMap<K, Change<T>>) -> impl Iterator<Item = (K, Change<T>)> {
    let mut changes: Vec<_> = changes.into_iter().collect();
    changes.sort_by_key(|(_, change)| change.is_some());
    changes.into_iter()
}
