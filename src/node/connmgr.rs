//! Which connections are worth keeping, as go-libp2p's connection manager sees it
//! (COMPATIBILITY.md 4.17).

mod tags;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Node;
use crate::{
    limit_hits::Limit,
    memory::{Account, Charge, OverBudget, Shed},
    muxer::Connection,
};
pub use tags::TagError;
use tags::Tags;

/// Time between looks at the number of connections (go-libp2p's silence period).
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// When connections are closed, and how many are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Connections left after a trim; 0 means that none is ever closed.
    pub low: usize,
    /// Connections that start a trim; 0 means the same.
    pub high: usize,
    /// Age below which a peer is spared.
    pub grace: Duration,
}

/// What the daemon itself thinks of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its connections are not trimmed.
    Protected,
    /// Its tags count this much more.
    Worth(i64),
}

/// A peer, and its tags with their weights.
pub type PeerTags = (PeerId, Vec<(Box<[u8]>, i64)>);

/// The tags that clients, and the daemon itself, gave to peers.
#[derive(Debug)]
pub(super) struct ConnectionManager {
    watermarks: Watermarks,
    tags: Mutex<Tags>,
    /// As many as those who protect them use: relays of this daemon.
    protected: Mutex<HashSet<PeerId>>,
}

impl ConnectionManager {
    pub(super) fn new(watermarks: Watermarks) -> Self {
        Self {
            watermarks,
            tags: Mutex::default(),
            protected: Mutex::default(),
        }
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn protected(&self) -> MutexGuard<'_, HashSet<PeerId>> {
        self.protected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The tags of a peer go with its last connection.
    pub(super) fn disconnected(&self, peer: &PeerId) {
        self.tags().forget(peer);
    }
}

/// A peer that may be disconnected.
#[derive(Debug)]
struct Candidate {
    peer: PeerId,
    value: i64,
    streams: usize,
    connections: usize,
    idle: bool,
}

/// Who goes: the least valued first, those without streams before those with, until no more
/// than `low` connections of candidates are left.
fn select(mut candidates: Vec<Candidate>, low: usize) -> Vec<PeerId> {
    let mut left: usize = candidates
        .iter()
        .map(|candidate| candidate.connections)
        .sum();
    candidates.sort_by_key(|candidate| (candidate.value, candidate.streams));
    let surplus = candidates.into_iter().take_while(|candidate| {
        let goes = left > low;
        left = left.saturating_sub(candidate.connections);
        goes
    });
    surplus.map(|candidate| candidate.peer).collect()
}

impl Node {
    /// Gives `peer` a tag of this weight, or changes the weight of the one it has.
    ///
    /// # Errors
    /// See [`TagError`].
    pub fn tag(&self, peer: PeerId, tag: impl AsRef<[u8]>, weight: i64) -> Result<(), TagError> {
        let connected = |peer: &PeerId| self.is_connected(peer);
        let mut tags = self.0.connmgr.tags();
        tags.set(peer, tag.as_ref(), weight, connected)
    }

    /// Takes a tag from `peer`, if it has it.
    pub fn untag(&self, peer: &PeerId, tag: impl AsRef<[u8]>) {
        self.0.connmgr.tags().unset(peer, tag.as_ref());
    }

    /// Spares the connections of `peer` whenever some are closed for being the least valued, until
    /// [`Node::unprotect`]. The caller bounds how many peers it protects.
    pub fn protect(&self, peer: PeerId) {
        self.0.connmgr.protected().insert(peer);
    }

    /// Ends [`Node::protect`].
    pub fn unprotect(&self, peer: &PeerId) {
        self.0.connmgr.protected().remove(peer);
    }

    /// The tags of `peers`, or of all tagged peers if it is empty, in the order of their ids. What
    /// that takes is charged to `account`.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn tags(
        &self,
        peers: &[PeerId],
        account: &Arc<Account>,
    ) -> Result<(Vec<PeerTags>, Charge), OverBudget> {
        const ENTRY: usize = 128;
        let known = self.0.connmgr.tags();
        let wanted = |peer: &PeerId| peers.is_empty() || peers.contains(peer);
        let found = || known.iter().filter(|(peer, _)| wanted(peer));
        let size = |tag: &[u8]| ENTRY + tag.len();
        let sizes = found().map(|(_, tags)| {
            let tags = tags.keys();
            ENTRY + tags.map(|tag| size(tag)).sum::<usize>()
        });
        // For what is found, and for the answer that is made of it.
        let charge = account.charge(2 * sizes.sum::<usize>())?;
        let mut list: Vec<PeerTags> = found()
            .map(|(peer, tags)| {
                let tags = tags.iter();
                let tags = tags.map(|(tag, weight)| (tag.clone(), *weight));
                (*peer, tags.collect())
            })
            .collect();
        drop(known);
        list.sort_unstable_by_key(|(peer, _)| *peer);
        Ok((list, charge))
    }

    /// Closes connections of the least valued peers down to the low mark and waits until they
    /// are closed. Spares peers that are young or protected; does nothing if those that are
    /// neither have fewer connections than the low mark.
    pub async fn trim(&self) {
        let Watermarks { low, high, grace } = self.0.connmgr.watermarks;
        if low == 0 || high == 0 {
            return;
        }
        let (candidates, connections) = self.candidates(grace);
        if connections <= low {
            return;
        }
        let surplus = select(candidates, low);
        tracing::debug!(connections, closing = surplus.len(), "trimming connections");
        futures::future::join_all(surplus.into_iter().map(|peer| self.disconnect(peer))).await;
    }

    /// Peers without protection that are older than `grace`, and how many connections there are.
    fn candidates(&self, grace: Duration) -> (Vec<Candidate>, usize) {
        let now = Instant::now();
        let mut candidates = Vec::new();
        let mut count = 0;
        for (peer, connected) in self.0.streams.peers.list() {
            let connections = connected.connections();
            count += connections.len();
            if self.0.connmgr.protected().contains(&peer) {
                continue;
            }
            let standing = self.0.routing.get().map(|routing| routing.standing(&peer));
            let worth = match standing {
                Some(Standing::Protected) => continue,
                Some(Standing::Worth(worth)) => worth,
                None => 0,
            };
            if now.duration_since(connected.since()) < grace {
                continue;
            }
            candidates.push(Candidate {
                peer,
                value: self.0.connmgr.tags().value(&peer).saturating_add(worth),
                streams: connections
                    .iter()
                    .map(|connection| connection.inbound_streams())
                    .sum(),
                connections: connections.len(),
                idle: connections.iter().all(|connection| connection.is_idle()),
            });
        }
        (candidates, count)
    }

    /// Trims whenever there are more connections than the high mark, until dropped.
    pub async fn keep_trimmed(self) {
        let mut ticks = interval_at(Instant::now() + TRIM_INTERVAL, TRIM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let peers = self.0.streams.peers.list();
            let connections: usize = peers.iter().map(|(_, peer)| peer.connections().len()).sum();
            if connections >= self.0.connmgr.watermarks.high {
                self.trim().await;
            }
        }
    }
}

impl Shed for Node {
    /// Closes peers without streams, the least valued first, until half of all connections are
    /// left.
    fn trim(&self) {
        let (candidates, connections) = self.candidates(Duration::ZERO);
        let idle: Vec<_> = candidates
            .into_iter()
            .filter(|candidate| candidate.idle)
            .collect();
        let of_idle: usize = idle.iter().map(|candidate| candidate.connections).sum();
        for peer in select(idle, of_idle.saturating_sub(connections.div_ceil(2))) {
            let Some(connected) = self.0.streams.peers.get(&peer) else {
                continue;
            };
            // Each connection's task looks again: a stream may have come meanwhile.
            let asked = |connection: &Arc<Connection>| connection.close_if_idle();
            if connected
                .connections()
                .iter()
                .filter(|one| asked(one))
                .count()
                > 0
            {
                Limit::MemoryTrimmed.hit();
                tracing::debug!(%peer, "idle peer closed for memory");
            }
        }
    }

    /// Cuts the peers that hold most.
    fn shed(&self, bytes: u64) -> u64 {
        self.cut_holders(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(value: i64, streams: usize, connections: usize) -> Candidate {
        Candidate {
            peer: PeerId::random(),
            value,
            streams,
            connections,
            idle: streams == 0,
        }
    }

    #[test]
    fn the_least_valued_go_down_to_the_low_mark() {
        let candidates = vec![
            candidate(5, 0, 1),
            candidate(-3, 9, 1),
            candidate(0, 1, 1),
            candidate(0, 0, 1),
        ];
        let peers: Vec<PeerId> = candidates.iter().map(|candidate| candidate.peer).collect();
        assert_eq!(select(candidates, 1), [peers[1], peers[3], peers[2]]);
    }

    #[test]
    fn a_peer_goes_with_all_its_connections() {
        let candidates = vec![candidate(1, 0, 3), candidate(2, 0, 1), candidate(3, 0, 1)];
        let first = candidates[0].peer;
        assert_eq!(select(candidates, 2), [first]);
        assert!(select(vec![candidate(1, 0, 2)], 2).is_empty());
    }
}
