//! What the DHT node held, on disk: a journal behind its memory, so that a restart is cheap.
//!
//! Changes collect in memory and one thread writes them, many in one transaction. The store
//! (redb) survives an end at any moment: what [`Disk::flush`] waited for is there at the next
//! start, the rest up to some moment of the last second.

mod changes;
mod file;
mod journal;
mod tables;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use changes::{Changes, Said};
pub use file::{DiskError, SystemError};
use journal::Shared;
use tables::Tables;

use crate::fixed_limits::fixed_limit;

/// Bytes of changes that wait to be written, so that peers which are faster than the disk cannot
/// fill the memory. What they bring beyond is not written.
const MAX_WAITING: usize = 32 << 20;
fixed_limit!("datastore: changes of peers that wait to be written", bytes MAX_WAITING);

/// What a datastore held when it was opened, no older than 48 hours.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Values.
    pub records: Vec<StoredRecord>,
    /// Providers.
    pub providers: Vec<StoredProvider>,
    /// Peers that have been useful, of any age, the latest first.
    pub peers: Vec<StoredPeer>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its key.
    pub key: Vec<u8>,
    /// The value, valid or not: time has passed.
    pub value: Bytes,
    /// When it came.
    pub received: SystemTime,
    /// Who brought it.
    pub origin: ChangeOrigin,
}

/// A peer that provides something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProvider {
    /// What it provides, a multihash.
    pub key: Vec<u8>,
    /// The peer.
    pub provider: PeerId,
    /// Where it was.
    pub addresses: Vec<Multiaddr>,
    /// When it said so.
    pub received: SystemTime,
    /// Who brought it.
    pub origin: ChangeOrigin,
}

/// A peer that has been useful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPeer {
    /// The peer.
    pub peer: PeerId,
    /// Where it was.
    pub addresses: Vec<Multiaddr>,
    /// When it was last useful.
    pub useful: SystemTime,
}

/// Who brought a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOrigin {
    /// A client of this daemon, who waits for [`Disk::flush`]: always written.
    Client,
    /// A peer: not written while the disk is too far behind.
    Peer,
}

/// An open datastore. Dropping it writes what waits and closes the file.
pub struct Disk {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the datastore at `path`, which is made if there is none. Blocks.
    ///
    /// # Errors
    /// [`DiskError`]; the daemon must not start with another memory than the one asked for.
    pub fn open(path: &Path) -> Result<(Self, Contents), DiskError> {
        let (tables, contents) = file::open(path)?;
        Self::start(tables, path.to_owned()).map(|disk| (disk, contents))
    }

    fn start(tables: Tables, path: PathBuf) -> Result<Self, DiskError> {
        let shared = Arc::new(Shared::default());
        let writer = thread::Builder::new().name("datastore".to_owned()).spawn({
            let (shared, path) = (shared.clone(), path.clone());
            move || journal::write(&shared, tables, &path)
        });
        let writer = writer.map_err(|error| DiskError::file(&path, error))?;
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }

    /// Keeps the record under `key`, instead of an earlier one.
    pub fn put_record(
        &self,
        origin: ChangeOrigin,
        key: &[u8],
        value: &Bytes,
        received: SystemTime,
    ) {
        self.change(origin, key.len() + value.len(), |changes| {
            let change = Some(Said {
                origin,
                time: received,
                what: value.clone(),
            });
            changes.records.insert(key.to_vec(), change);
        });
    }

    /// Forgets the record under `key`.
    pub fn remove_record(&self, key: &[u8]) {
        self.remove(key.len(), |changes| {
            changes.records.insert(key.to_vec(), None);
        });
    }

    /// Keeps that `provider` has `key`, instead of what it said earlier.
    pub fn put_provider(
        &self,
        origin: ChangeOrigin,
        key: &[u8],
        provider: PeerId,
        addresses: &[Multiaddr],
        received: SystemTime,
    ) {
        self.change(origin, key.len() + size(addresses), |changes| {
            let change = Some(Said {
                origin,
                time: received,
                what: addresses.to_vec(),
            });
            changes.providers.insert((key.to_vec(), provider), change);
        });
    }

    /// Forgets that `provider` has `key`.
    pub fn remove_provider(&self, key: &[u8], provider: PeerId) {
        self.remove(key.len(), |changes| {
            changes.providers.insert((key.to_vec(), provider), None);
        });
    }

    /// Keeps a peer that was useful at `useful`.
    pub fn put_peer(&self, peer: PeerId, addresses: &[Multiaddr], useful: SystemTime) {
        self.change(ChangeOrigin::Peer, size(addresses), |changes| {
            let change = Some(Said {
                origin: ChangeOrigin::Peer,
                time: useful,
                what: addresses.to_vec(),
            });
            changes.peers.insert(peer, change);
        });
    }

    /// Forgets a peer.
    pub fn remove_peer(&self, peer: PeerId) {
        self.remove(0, |changes| {
            changes.peers.insert(peer, None);
        });
    }

    /// Waits until all changes so far are on disk, or the disk is lost, which is logged once:
    /// the daemon goes on in memory.
    pub async fn flush(&self) {
        let mut written = self.shared.written.subscribe();
        let count = {
            let mut state = self.shared.state();
            state.urgent = true;
            state.count
        };
        self.shared.changed.notify_one();
        // An error means that the writer has ended: nothing is left to wait for.
        let _ = written.wait_for(|written| *written >= count).await;
    }

    /// Changes that were not written: the disk was too slow, or as full as it may become.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.shared.state().missed
    }

    fn change(&self, origin: ChangeOrigin, bytes: usize, apply: impl FnOnce(&mut Changes)) {
        let mut state = self.shared.state();
        if state.failed {
            return;
        }
        let bytes = bytes + ENTRY;
        if origin == ChangeOrigin::Peer && state.changes.bytes + bytes > MAX_WAITING {
            state.missed += 1;
            return;
        }
        self.shared.enter(state, bytes, apply);
    }

    /// Removals are never left out: a store that grows for want of them would be worse.
    fn remove(&self, bytes: usize, apply: impl FnOnce(&mut Changes)) {
        let state = self.shared.state();
        if !state.failed {
            self.shared.enter(state, bytes + ENTRY, apply);
        }
    }
}

/// What one change costs beside its content, in bytes: key, time and place in a map.
const ENTRY: usize = 128;

fn size(addresses: &[Multiaddr]) -> usize {
    addresses.iter().map(Multiaddr::len).sum()
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            // One transaction at most; a writer that has panicked has said so.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
