//! The peers that are connected now, by what their connections' tasks report.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use libp2p::PeerId;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, Semaphore, futures::Notified, watch},
    time::Instant,
};

use super::name::ProtocolName;
use crate::{
    fixed_limits::fixed_limit,
    memory::{Account, Ledger},
    metrics::metrics,
    muxer::Connection,
};

/// Protocols remembered of one peer (SECURITY.md 3).
const MAX_PROTOCOLS: usize = 256;
fixed_limit!("protocols remembered of one peer", MAX_PROTOCOLS);

/// Bytes of their names (SECURITY.md 3).
const MAX_PROTOCOL_BYTES: usize = 16 * 1024;
fixed_limit!("names of the protocols of one peer", bytes MAX_PROTOCOL_BYTES);

/// Names remembered that a peer has agreed to (SECURITY.md 3); more begin the list anew.
const MAX_AGREED: usize = 256;
fixed_limit!(
    "protocols remembered that one peer has agreed to",
    MAX_AGREED
);

/// Bytes remembered of what a peer says of its program (SECURITY.md 3).
const MAX_AGENT: usize = 128;
fixed_limit!("agent of a peer", bytes MAX_AGENT);

/// Large calls that one peer may be sending (SECURITY.md 3); its further ones wait.
const MAX_LARGE: usize = 8;
fixed_limit!("calls above 64 KiB that one peer is sending", MAX_LARGE);

/// Handler connections being made for one peer (SECURITY.md 3); its further streams wait.
pub(crate) const MAX_DIALS: usize = 256;
fixed_limit!("handler connections being made for one peer", MAX_DIALS);

/// A connected peer.
#[derive(Debug)]
pub struct Peer {
    since: Instant,
    connections: RwLock<Vec<Arc<Connection>>>,
    /// What identify told; `None` until it has finished.
    protocols: watch::Sender<Option<Arc<[String]>>>,
    /// Why identify told nothing, if it began and failed.
    unreadable: RwLock<Option<Arc<str>>>,
    /// What it says of its own program, [`MAX_AGENT`] bytes at most.
    agent: RwLock<Option<Arc<str>>>,
    /// Its last answer to a ping took so many microseconds; 0 before the first.
    round_trip: AtomicU64,
    /// Names it has agreed to on an earlier call; identify cannot list those without a slash.
    agreed: RwLock<HashSet<ProtocolName>>,
    /// A place for each large call that the peer is sending.
    pub large: Arc<Semaphore>,
    /// Held while a request of the peer is answered, by services that take long over one: those of
    /// all its streams are answered one after another.
    pub answering: Arc<Semaphore>,
    /// A place for each of its streams whose handler is being connected to.
    pub(super) dials: Arc<Semaphore>,
    /// What is held because of the peer is charged here.
    pub account: Arc<Account>,
    /// Its streams that are counted by their protocols.
    pub(super) open: Arc<AtomicUsize>,
    /// Bytes received and sent on its connections that are gone.
    gone: Mutex<(u64, u64)>,
}

impl Peer {
    /// The connection to open streams on: direct before relayed, then the newest.
    #[must_use]
    pub fn best_connection(&self) -> Option<Arc<Connection>> {
        let connections = self.connections.read();
        connections
            .iter()
            .rev()
            .find(|connection| !connection.relayed)
            .or_else(|| connections.last())
            .cloned()
    }

    /// The newest connection that does not run through a relay.
    #[must_use]
    pub fn direct_connection(&self) -> Option<Arc<Connection>> {
        let connections = self.connections.read();
        let direct = connections
            .iter()
            .rev()
            .find(|connection| !connection.relayed);
        direct.cloned()
    }

    /// When the first of its present connections was made.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// All connections to the peer.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.read().clone()
    }

    /// Waits until identify has finished and returns the peer's protocols, empty if identify
    /// failed.
    pub async fn identified(&self) -> Arc<[String]> {
        let mut protocols = self.protocols.subscribe();
        match protocols.wait_for(Option::is_some).await {
            Ok(known) => known.clone().unwrap_or_default(),
            Err(_) => Arc::default(),
        }
    }

    /// Why the peer's identify message could not be read, if nothing else is known of it. A peer
    /// that does not speak identify has sent none.
    #[must_use]
    pub fn unreadable(&self) -> Option<Arc<str>> {
        self.unreadable.read().clone()
    }

    /// What the peer says of its program, cut to 128 bytes. A stranger's text: to be escaped
    /// wherever it is shown.
    #[must_use]
    pub fn agent(&self) -> Option<Arc<str>> {
        self.agent.read().clone()
    }

    /// How long its last answer to a ping took.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match self.round_trip.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Payload of its connections since it connected: received and sent, in bytes.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        // Under the lock no connection passes from the living to the gone.
        let connections = self.connections.read();
        let gone = *self.gone.lock();
        connections.iter().fold(gone, |(received, sent), one| {
            (received + one.received(), sent + one.sent())
        })
    }

    /// Streams with it whose protocol is agreed on, but those that the library serves.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Whether the peer spoke `name` when last asked, or lists it.
    pub(super) fn speaks(&self, name: &ProtocolName) -> bool {
        self.agreed.read().contains(name)
            || self
                .protocols
                .borrow()
                .as_ref()
                .is_some_and(|known| known.iter().any(|other| other == name))
    }

    pub(super) fn agreed(&self, name: &ProtocolName) {
        let mut agreed = self.agreed.write();
        if agreed.len() == MAX_AGREED {
            agreed.clear();
        }
        agreed.insert(name.clone());
    }

    /// The peer no longer speaks `name`.
    pub fn refused(&self, name: &ProtocolName) {
        self.agreed.write().remove(name);
    }

    /// The peer's protocols as far as known.
    #[must_use]
    pub fn protocols(&self) -> Option<Arc<[String]>> {
        self.protocols.borrow().clone()
    }
}

/// How many of `connections` were dialed, or were not.
fn count(connections: &[Arc<Connection>], dialed: bool) -> usize {
    connections
        .iter()
        .filter(|one| one.dialed == dialed)
        .count()
}

/// Is told what identify learned of a peer, before anybody who waits for it; of one that can be
/// reached through relays alone not before it has a direct connection.
pub type Observer = Box<dyn Fn(PeerId, &[String]) + Send + Sync>;

/// The table of connected peers.
pub struct Peers {
    table: RwLock<HashMap<PeerId, Arc<Peer>>>,
    changed: Notify,
    observers: RwLock<Vec<Observer>>,
    ledger: Arc<Ledger>,
    /// Bytes received and sent on connections that are gone.
    gone: Mutex<(u64, u64)>,
    /// Peers that have connected so far, each time anew.
    came: AtomicU64,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// No peers yet. Each gets an account in `ledger`.
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            table: RwLock::default(),
            changed: Notify::default(),
            observers: RwLock::default(),
            ledger,
            gone: Mutex::default(),
            came: AtomicU64::new(0),
        }
    }

    /// The peer, if connected.
    #[must_use]
    pub fn get(&self, peer: &PeerId) -> Option<Arc<Peer>> {
        self.table.read().get(peer).cloned()
    }

    /// Completes at the next [`Peers::add`], end of a connection or [`Peers::settled`] after it was
    /// enabled.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Adds who is told what identify learns.
    pub fn observe(&self, observer: Observer) {
        self.observers.write().push(observer);
    }

    /// The swarm has taken note of a connection's end, so a new one may be made.
    pub fn settled(&self) {
        self.changed.notify_waiters();
    }

    /// Every connected peer.
    #[must_use]
    pub fn list(&self) -> Vec<(PeerId, Arc<Peer>)> {
        self.table
            .read()
            .iter()
            .map(|(id, peer)| (*id, peer.clone()))
            .collect()
    }

    pub(super) fn add(&self, connection: &Arc<Connection>) {
        let mut table = self.table.write();
        let peer = table.entry(connection.peer).or_insert_with(|| {
            self.came.fetch_add(1, Relaxed);
            Arc::new(Peer {
                since: Instant::now(),
                connections: RwLock::default(),
                protocols: watch::Sender::new(None),
                unreadable: RwLock::default(),
                agent: RwLock::default(),
                round_trip: AtomicU64::new(0),
                agreed: RwLock::default(),
                large: Arc::new(Semaphore::new(MAX_LARGE)),
                answering: Arc::new(Semaphore::new(1)),
                dials: Arc::new(Semaphore::new(MAX_DIALS)),
                account: self.ledger.peer(&connection.remote),
                open: Arc::default(),
                gone: Mutex::default(),
            })
        });
        let met = !connection.relayed && peer.direct_connection().is_none();
        let known = peer.protocols().filter(|_| met);
        let mut connections = peer.connections.write();
        connections.push(connection.clone());
        let new = count(&connections, connection.dialed);
        metrics().peers.connections(connection.dialed, new - 1, new);
        drop(connections);
        drop(table);
        if let Some(known) = known {
            self.tell(connection.peer, &known);
        }
        self.changed.notify_waiters();
    }

    pub(super) fn remove(&self, connection: &Arc<Connection>) {
        let mut table = self.table.write();
        let Some(peer) = table.get(&connection.peer) else {
            return;
        };
        let mut connections = peer.connections.write();
        let before = connections.len();
        connections.retain(|other| !Arc::ptr_eq(other, connection));
        if connections.len() < before {
            for gone in [&self.gone, &peer.gone] {
                let mut gone = gone.lock();
                gone.0 += connection.received();
                gone.1 += connection.sent();
            }
            let new = count(&connections, connection.dialed);
            metrics().peers.connections(connection.dialed, new + 1, new);
        }
        let empty = connections.is_empty();
        drop(connections);
        if empty && let Some(gone) = table.remove(&connection.peer) {
            // Nobody identifies it any more: who waits for that must not wait on.
            gone.protocols.send_if_modified(|known| {
                let waited_for = known.is_none();
                known.get_or_insert_default();
                waited_for
            });
        }
        drop(table);
        self.changed.notify_waiters();
    }

    /// Records what `peer` says of its program.
    pub fn set_agent(&self, peer: &PeerId, agent: &str) {
        if let Some(known) = self.get(peer) {
            let end = |len: &usize| agent.is_char_boundary(*len);
            let end = (0..=MAX_AGENT.min(agent.len())).rev().find(end);
            let agent = agent.get(..end.unwrap_or(0)).unwrap_or_default();
            *known.agent.write() = Some(agent.into());
        }
    }

    /// Records how long `peer` took to answer a ping.
    pub fn set_round_trip(&self, peer: &PeerId, time: Duration) {
        if let Some(known) = self.get(peer) {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            known.round_trip.store(micros.max(1), Relaxed);
        }
    }

    /// Payload of all connections so far, of those that are gone too: received and sent, in bytes.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        // Under the lock no connection passes from the living to the gone.
        let table = self.table.read();
        let (mut received, mut sent) = *self.gone.lock();
        for peer in table.values() {
            for connection in &*peer.connections.read() {
                received += connection.received();
                sent += connection.sent();
            }
        }
        (received, sent)
    }

    /// How many peers have connected so far. One that has left and comes back counts again.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came.load(Relaxed)
    }

    fn tell(&self, peer: PeerId, protocols: &[String]) {
        for observer in &*self.observers.read() {
            observer(peer, protocols);
        }
    }

    /// Records that the identify message of `peer` could not be read.
    pub fn set_unreadable(&self, peer: &PeerId, reason: &str) {
        let Some(known) = self.get(peer) else {
            return;
        };
        // What was learned before stands.
        if known.protocols().is_none() {
            *known.unreadable.write() = Some(reason.into());
        }
        self.set_identified(peer, None);
    }

    /// Records what identify learned, `None` if it failed; what is known now of a connected peer.
    pub fn set_identified(
        &self,
        peer: &PeerId,
        protocols: Option<Vec<String>>,
    ) -> Option<Arc<[String]>> {
        let id = peer;
        let peer = self.get(id)?;
        if let Some(protocols) = &protocols {
            *peer.unreadable.write() = None;
            if peer.direct_connection().is_some() {
                self.tell(*id, protocols);
            }
        }
        peer.protocols.send_if_modified(|known| match protocols {
            Some(mut protocols) => {
                protocols.truncate(MAX_PROTOCOLS);
                let mut bytes = 0;
                protocols.retain(|name| {
                    bytes += name.len();
                    bytes <= MAX_PROTOCOL_BYTES
                });
                *known = Some(protocols.into());
                true
            }
            // A failed repetition leaves what is known.
            None if known.is_none() => {
                *known = Some(Arc::default());
                true
            }
            None => false,
        });
        peer.protocols()
    }
}
