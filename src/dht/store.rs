//! What this daemon holds for others: records and who provides what.

mod entries;
mod shares;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use rand::seq::SliceRandom as _;
use tokio::time::{Instant, timeout_at};

use entries::{Entries, Entry, Rank};
pub(super) use shares::Holder;

use super::{
    PeerInfo, Usage,
    disk::{ChangeOrigin, Contents, Disk, StoredPeer},
};
use crate::{fixed_limits::fixed_limit, memory::prefix};

/// Memory for records, in bytes (SECURITY.md 3). What was received first goes first; what
/// clients of this daemon put goes last.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 20;
fixed_limit!("DHT: records held at most", bytes MAX_RECORD_BYTES);

/// Memory for providers, in bytes, by the same rule.
pub(crate) const MAX_PROVIDER_BYTES: usize = 64 << 20;
fixed_limit!("DHT: providers held at most", bytes MAX_PROVIDER_BYTES);

/// Time for the datastore to write what waits when the daemon ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that an entry takes besides its key, value and addresses.
const OVERHEAD: usize = 768;

/// Bytes that an address takes besides its own.
const ADDRESS_OVERHEAD: usize = 64;

/// Providers held of one key (SECURITY.md 3). They are walked with the store locked, which takes
/// less than 1 ms in a debug build.
const MAX_PER_KEY: usize = 1024;
fixed_limit!("DHT: providers held of one key", MAX_PER_KEY);

type Provider = Entry<Vec<Multiaddr>>;

/// A provider record's key: what is provided and who provides it. `None`, which sorts first, is
/// where a search begins.
type ProviderKey = (Bytes, Option<PeerId>);

#[derive(Debug)]
struct State {
    records: Entries<Bytes, Bytes>,
    providers: Entries<ProviderKey, Vec<Multiaddr>>,
    /// Changed together with the rest, so that both see changes in one order.
    disk: Option<Arc<Disk>>,
}

fn origin(holder: Holder) -> ChangeOrigin {
    match holder {
        Holder::Own => ChangeOrigin::Client,
        Holder::Peer { .. } => ChangeOrigin::Peer,
    }
}

/// Who an entry of a datastore is charged to: a provider's addresses tell where it was.
fn restored(origin: ChangeOrigin, provider: Option<(PeerId, &[Multiaddr])>) -> Holder {
    match (origin, provider) {
        (ChangeOrigin::Client, _) => Holder::Own,
        (ChangeOrigin::Peer, None) => Holder::UNKNOWN,
        (ChangeOrigin::Peer, Some((peer, addresses))) => Holder::Peer {
            prefix: addresses.iter().find_map(prefix),
            peer: Some(peer),
        },
    }
}

impl State {
    fn put_record(&mut self, holder: Holder, key: &[u8], value: Bytes, received: SystemTime) {
        if let Some(disk) = &self.disk {
            disk.put_record(origin(holder), key, &value, received);
        }
        let cost = key.len() + value.len() + OVERHEAD;
        let key = Bytes::copy_from_slice(key);
        let gone = self.records.insert(key, value, cost, holder, received);
        self.forget_records(&gone);
    }

    fn put_provider(&mut self, holder: Holder, key: &[u8], info: PeerInfo, received: SystemTime) {
        if let Some(disk) = &self.disk {
            disk.put_provider(origin(holder), key, info.id, &info.addresses, received);
        }
        let key = Bytes::copy_from_slice(key);
        self.make_room(&key, info.id);
        let addresses = info.addresses;
        let size: usize = addresses
            .iter()
            .map(|address| address.len() + ADDRESS_OVERHEAD)
            .sum();
        let cost = key.len() + size + OVERHEAD;
        let key = (key, Some(info.id));
        let gone = self
            .providers
            .insert(key, addresses, cost, holder, received);
        self.forget_providers(&gone);
    }

    fn providers_of(&self, key: &Bytes) -> impl Iterator<Item = (&ProviderKey, &Provider)> {
        let first = (key.clone(), None);
        let range = self.providers.by_key.range(first..);
        range.take_while(move |((other, _), _)| other == key)
    }

    /// If `key` has as many providers as it may have, evicts the oldest of the address prefix
    /// that has most of them.
    fn make_room(&mut self, key: &Bytes, newcomer: PeerId) {
        let mut prefixes: HashMap<Option<IpAddr>, (usize, Rank, Option<PeerId>)> = HashMap::new();
        let mut count = 0;
        for ((_, id), entry) in self.providers_of(key) {
            if *id == Some(newcomer) {
                return;
            }
            count += 1;
            let Holder::Peer { prefix, .. } = entry.holder else {
                continue;
            };
            let most = prefixes.entry(prefix).or_insert((0, entry.rank, *id));
            let oldest = (most.1, most.2).min((entry.rank, *id));
            *most = (most.0 + 1, oldest.0, oldest.1);
        }
        if count < MAX_PER_KEY {
            return;
        }
        if let Some((_, _, id)) = prefixes.into_values().max() {
            let victim = (key.clone(), id);
            self.providers.evict(&victim);
            self.forget_providers(&[victim]);
        }
    }

    fn forget_records(&self, keys: &[Bytes]) {
        if let Some(disk) = &self.disk {
            keys.iter().for_each(|key| disk.remove_record(key));
        }
    }

    fn forget_providers(&self, keys: &[ProviderKey]) {
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
            let holder = restored(record.origin, None);
            state.put_record(holder, &record.key, record.value, record.received);
        }
        for provider in held.providers {
            let info = PeerInfo {
                id: provider.provider,
                addresses: provider.addresses,
            };
            let holder = restored(provider.origin, Some((info.id, &info.addresses)));
            state.put_provider(holder, &provider.key, info, provider.received);
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
        entry
            .is_fresh(SystemTime::now())
            .then(|| entry.value.clone())
    }

    /// Stores a record, whatever is there.
    #[cfg(test)]
    pub(super) fn put_record(&self, holder: Holder, key: &[u8], value: &[u8]) {
        // A copy: what is borrowed may be a small part of a large message.
        let value = Bytes::copy_from_slice(value);
        self.state()
            .put_record(holder, key, value, SystemTime::now());
    }

    /// Stores a record in the place of `held`, which may be none. False if another one is there by now.
    pub(super) fn replace_record(
        &self,
        holder: Holder,
        key: &[u8],
        held: Option<&[u8]>,
        value: &[u8],
    ) -> bool {
        let value = Bytes::copy_from_slice(value);
        let now = SystemTime::now();
        let mut state = self.state();
        let present = state.records.by_key.get(key);
        let present = present.filter(|present| present.is_fresh(now));
        if present.map(|present| &present.value[..]) != held {
            return false;
        }
        state.put_record(holder, key, value, now);
        true
    }

    /// At most `max` providers of `key`, chosen at random: this daemon first, then one of each
    /// address prefix in turn. So whoever has many ids at few addresses hides nobody.
    pub(super) fn providers(&self, key: &[u8], max: usize) -> Vec<PeerInfo> {
        let now = SystemTime::now();
        let key = Bytes::copy_from_slice(key);
        let mut found: Vec<(Holder, PeerInfo)> = {
            let state = self.state();
            let providers = state.providers_of(&key);
            providers
                .filter(|(_, entry)| entry.is_fresh(now))
                .filter_map(|((_, id), entry)| {
                    let info = PeerInfo {
                        id: (*id)?,
                        // Shares the bytes of each address.
                        addresses: entry.value.clone(),
                    };
                    Some((entry.holder, info))
                })
                .collect()
        };
        found.shuffle(&mut rand::rng());
        let mut turns: HashMap<Option<IpAddr>, usize> = HashMap::new();
        let mut found: Vec<(usize, PeerInfo)> = found
            .into_iter()
            .map(|(holder, info)| match holder {
                Holder::Own => (0, info),
                Holder::Peer { prefix, .. } => {
                    let turn = turns.entry(prefix).or_default();
                    *turn += 1;
                    (*turn, info)
                }
            })
            .collect();
        // Stable: within a turn the order stays random.
        found.sort_by_key(|(turn, _)| *turn);
        found.truncate(max);
        found.into_iter().map(|(_, info)| info).collect()
    }

    /// Stores a provider of `key`.
    pub(super) fn put_provider(&self, holder: Holder, key: &[u8], provider: PeerInfo) {
        self.state()
            .put_provider(holder, key, provider, SystemTime::now());
    }

    /// Removes what has expired, a thousand entries at a time: others take the lock in between.
    pub(super) fn expire(&self) {
        let now = SystemTime::now();
        loop {
            let mut state = self.state();
            let records = state.records.expire(now);
            state.forget_records(&records);
            let providers = state.providers.expire(now);
            state.forget_providers(&providers);
            if records.is_empty() && providers.is_empty() {
                break;
            }
        }
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
mod tests;
