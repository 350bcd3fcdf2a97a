//! What this daemon holds for others: records and who provides what.

mod entries;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use entries::{Entries, is_fresh};

use super::{
    PeerInfo, Usage,
    disk::{ChangeOrigin, Contents, Disk, StoredPeer},
};

/// Memory for records, in bytes (SECURITY.md 3). What was received first goes first; what
/// clients of this daemon put goes last.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 20;

/// Memory for providers, in bytes, by the same rule.
pub(crate) const MAX_PROVIDER_BYTES: usize = 64 << 20;

/// Time for the datastore to write what waits when the daemon ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that an entry takes besides its key, value and addresses.
const OVERHEAD: usize = 512;

/// Bytes that an address takes besides its own.
const ADDRESS_OVERHEAD: usize = 64;

/// Providers told of one key, the latest first.
const MAX_PROVIDERS: usize = 256;

#[derive(Debug)]
struct State {
    records: Entries<Bytes, Bytes>,
    /// By key and provider; `None`, which sorts first, is where a search begins.
    providers: Entries<(Bytes, Option<PeerId>), Vec<Multiaddr>>,
    /// Changed together with the rest, so that both see changes in one order.
    disk: Option<Arc<Disk>>,
}

impl State {
    fn put_record(&mut self, origin: ChangeOrigin, key: &[u8], value: Bytes, received: SystemTime) {
        if let Some(disk) = &self.disk {
            disk.put_record(origin, key, &value, received);
        }
        let cost = key.len() + value.len() + OVERHEAD;
        let key = Bytes::copy_from_slice(key);
        let own = origin == ChangeOrigin::Client;
        let gone = self.records.insert(key, value, cost, own, received);
        self.forget_records(&gone);
    }

    fn put_provider(
        &mut self,
        origin: ChangeOrigin,
        key: &[u8],
        info: PeerInfo,
        received: SystemTime,
    ) {
        if let Some(disk) = &self.disk {
            disk.put_provider(origin, key, info.id, &info.addresses, received);
        }
        let addresses = info.addresses;
        let size: usize = addresses
            .iter()
            .map(|address| address.len() + ADDRESS_OVERHEAD)
            .sum();
        let cost = key.len() + size + OVERHEAD;
        let key = (Bytes::copy_from_slice(key), Some(info.id));
        let own = origin == ChangeOrigin::Client;
        let gone = self.providers.insert(key, addresses, cost, own, received);
        self.forget_providers(&gone);
    }

    fn forget_records(&self, keys: &[Bytes]) {
        if let Some(disk) = &self.disk {
            keys.iter().for_each(|key| disk.remove_record(key));
        }
    }

    fn forget_providers(&self, keys: &[(Bytes, Option<PeerId>)]) {
        let Some(disk) = &self.disk else { return };
        for (key, provider) in keys {
            provider.map(|provider| disk.remove_provider(key, provider));
        }
    }
}

/// Records and providers, in memory, with a journal on disk if there is a datastore.
#[derive(Debug)]
pub(super) struct Store(Mutex<State>);

impl Store {
    /// `share` are the bytes that records may use, and providers as many, if it is less than what
    /// they may use anywhere.
    pub(super) fn new(share: usize) -> Self {
        Self(Mutex::new(State {
            records: Entries::new(share.min(MAX_RECORD_BYTES)),
            providers: Entries::new(share.min(MAX_PROVIDER_BYTES)),
            disk: None,
        }))
    }

    /// A store that goes on with what a datastore held. The peers it knew come back.
    pub(super) fn restored(share: usize, disk: Disk, held: Contents) -> (Self, Vec<StoredPeer>) {
        let store = Self::new(share);
        let mut state = store.state();
        for record in held.records {
            state.put_record(record.origin, &record.key, record.value, record.received);
        }
        for provider in held.providers {
            let info = PeerInfo {
                id: provider.provider,
                addresses: provider.addresses,
            };
            state.put_provider(provider.origin, &provider.key, info, provider.received);
        }
        // Only now, or all of it would be written again.
        state.disk = Some(Arc::new(disk));
        drop(state);
        (store, held.peers)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    fn disk(&self) -> Option<Arc<Disk>> {
        self.state().disk.clone()
    }

    /// Waits until what is held so far is on disk, if there is a datastore.
    pub(super) async fn flush(&self) {
        if let Some(disk) = self.disk() {
            disk.flush().await;
        }
    }

    /// Closes the datastore, with everything written. From now on there is none. A disk that does
    /// not respond within [`CLOSE_TIMEOUT`] is left alone: what clients were acknowledged has
    /// been written before.
    pub(super) async fn close(&self) {
        self.close_within(CLOSE_TIMEOUT).await;
    }

    pub(super) async fn close_within(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let flushed = timeout_at(deadline, self.flush()).await;
        let disk = self.state().disk.take();
        // Closing blocks. A thread that never returns is left behind by the runtime.
        let closed = tokio::task::spawn_blocking(move || drop(disk));
        if flushed.is_err() || timeout_at(deadline, closed).await.is_err() {
            tracing::warn!("the datastore does not respond: ending without it");
        }
    }

    /// Remembers a peer of the routing table across restarts.
    pub(super) fn remember_peer(&self, peer: &PeerId, addresses: &[Multiaddr]) {
        if let Some(disk) = self.disk() {
            disk.put_peer(*peer, addresses, SystemTime::now());
        }
    }

    /// Forgets a peer that has left the routing table.
    pub(super) fn forget_peer(&self, peer: &PeerId) {
        if let Some(disk) = self.disk() {
            disk.remove_peer(*peer);
        }
    }

    /// The record of `key`, unless it has expired.
    pub(super) fn record(&self, key: &[u8]) -> Option<Bytes> {
        let state = self.state();
        let entry = state.records.by_key.get(key)?;
        is_fresh(&entry.rank, SystemTime::now()).then(|| entry.value.clone())
    }

    /// Stores a record.
    pub(super) fn put_record(&self, origin: ChangeOrigin, key: &[u8], value: &[u8]) {
        // A copy: what is borrowed may be a small part of a large message.
        let value = Bytes::copy_from_slice(value);
        self.state()
            .put_record(origin, key, value, SystemTime::now());
    }

    /// The providers of `key`, the latest first.
    pub(super) fn providers(&self, key: &[u8]) -> Vec<PeerInfo> {
        let now = SystemTime::now();
        let state = self.state();
        let mut found: Vec<_> = state
            .providers
            .by_key
            .range((Bytes::copy_from_slice(key), None)..)
            .take_while(|((other, _), _)| other == key)
            .filter(|(_, entry)| is_fresh(&entry.rank, now))
            .collect();
        found.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.rank));
        found
            .into_iter()
            .take(MAX_PROVIDERS)
            .filter_map(|((_, id), entry)| {
                Some(PeerInfo {
                    id: (*id)?,
                    addresses: entry.value.clone(),
                })
            })
            .collect()
    }

    /// Stores a provider of `key`.
    pub(super) fn put_provider(&self, origin: ChangeOrigin, key: &[u8], provider: PeerInfo) {
        self.state()
            .put_provider(origin, key, provider, SystemTime::now());
    }

    /// Removes what has expired.
    pub(super) fn expire(&self) {
        let now = SystemTime::now();
        let mut state = self.state();
        let records = state.records.expire(now);
        state.forget_records(&records);
        let providers = state.providers.expire(now);
        state.forget_providers(&providers);
    }

    /// What is held of records and of provider records, and how many changes were not written
    /// to disk.
    pub(super) fn usage(&self) -> (Usage, Usage, u64) {
        let state = self.state();
        let unwritten = state.disk.as_ref().map_or(0, |disk| disk.missed());
        (state.records.usage(), state.providers.usage(), unwritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_providers_come_first() {
        let store = Store::new(usize::MAX);
        let ids: Vec<PeerId> = (0..300).map(|_| PeerId::random()).collect();
        for id in &ids {
            let info = PeerInfo {
                id: *id,
                addresses: Vec::new(),
            };
            store.put_provider(ChangeOrigin::Peer, b"key", info.clone());
            store.put_provider(ChangeOrigin::Peer, b"other key", info);
        }
        let told: Vec<PeerId> = store.providers(b"key").iter().map(|info| info.id).collect();
        let latest: Vec<PeerId> = ids.iter().rev().take(MAX_PROVIDERS).copied().collect();
        assert_eq!(told, latest);
        assert!(store.providers(b"ke").is_empty());
    }
}
