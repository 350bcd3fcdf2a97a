//! Who is cut when memory is short.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Node;
use crate::{
    fixed_limits::fixed_limit, limit_hits::Limit, memory::prefix, muxer::Connection, streams::Peer,
};

/// Memory below which a peer is not cut, in bytes.
const MIN_CUT: u64 = 64 * 1024;

/// How long what a peer that was cut still holds is waited for.
const LEAVING: Duration = Duration::from_secs(2);
fixed_limit!("time in which a cut peer's memory counts as given back", time LEAVING);

/// Peers that this is remembered of (SECURITY.md 3); of more the first are forgotten.
const MAX_LEAVING: usize = 1024;
fixed_limit!("cut peers whose memory counts so", MAX_LEAVING);

/// A peer and what is held because of it.
#[derive(Debug, Clone)]
struct Holder<T> {
    peer: T,
    bytes: u64,
    prefix: Option<IpAddr>,
    since: Instant,
}

/// Which of `holders` are cut to free `bytes`.
///
/// First those that hold at least their share of `bytes`, the largest first, so that whoever holds
/// little is never cut for what others hold. If nobody stands out, the peers of the address prefix
/// that holds most in sum, the newest first, then those of the next prefix. Nobody is cut who
/// holds less than [`MIN_CUT`].
fn select<T>(mut holders: Vec<Holder<T>>, bytes: u64) -> Vec<Holder<T>> {
    let count = u64::try_from(holders.len()).unwrap_or(u64::MAX).max(1);
    let share = (bytes / count).max(MIN_CUT);
    holders.retain(|holder| holder.bytes >= MIN_CUT);
    holders.sort_by_key(|holder| Reverse(holder.bytes));
    let mut freed: u64 = 0;
    let mut take = |holder: &Holder<T>| {
        let goes = freed < bytes;
        freed = freed.saturating_add(if goes { holder.bytes } else { 0 });
        goes
    };
    let outstanding = holders.partition_point(|holder| holder.bytes >= share);
    let mut rest = holders.split_off(outstanding);
    let mut cut: Vec<_> = holders.into_iter().take_while(&mut take).collect();
    if !cut.is_empty() {
        return cut;
    }
    let mut sums: HashMap<Option<IpAddr>, u64> = HashMap::new();
    for holder in &rest {
        let sum = sums.entry(holder.prefix).or_default();
        *sum = sum.saturating_add(holder.bytes);
    }
    rest.sort_by_key(|holder| {
        let sum = sums.get(&holder.prefix).copied().unwrap_or(0);
        (Reverse(sum), holder.prefix, Reverse(holder.since))
    });
    cut.extend(rest.into_iter().take_while(&mut take));
    cut
}

fn holder((id, peer): (PeerId, Arc<Peer>)) -> Holder<(PeerId, Arc<Peer>)> {
    let connections = peer.connections();
    Holder {
        bytes: held(&peer, &connections),
        prefix: connections.first().and_then(|one| prefix(&one.remote)),
        since: peer.since(),
        peer: (id, peer),
    }
}

/// The same peer with all that may be held because of it.
fn unseen(mut holder: Holder<(PeerId, Arc<Peer>)>) -> Holder<(PeerId, Arc<Peer>)> {
    let connections = holder.peer.1.connections();
    let unseen: u64 = connections.iter().map(|one| one.unseen()).sum();
    holder.bytes = holder.bytes.saturating_add(unseen);
    holder
}

/// Peers that were cut a moment ago. What they hold is given back as fast as their tasks get their
/// turns, and nobody else is to be cut meanwhile because memory is still in use.
#[derive(Debug, Default)]
pub(super) struct Leaving(Mutex<VecDeque<Left>>);

#[derive(Debug)]
struct Left {
    since: Instant,
    peer: Arc<Peer>,
    connections: Vec<Arc<Connection>>,
}

impl Leaving {
    fn add(&self, peer: Arc<Peer>, connections: Vec<Arc<Connection>>) {
        let mut all = self.0.lock();
        if all.len() == MAX_LEAVING {
            all.pop_front();
        }
        all.push_back(Left {
            since: Instant::now(),
            peer,
            connections,
        });
    }

    /// Bytes that they still hold. Whoever was cut longer than [`LEAVING`] ago is forgotten.
    fn bytes(&self) -> u64 {
        let mut all = self.0.lock();
        let now = Instant::now();
        all.retain(|left| now.duration_since(left.since) < LEAVING && left.bytes() > 0);
        all.iter().map(Left::bytes).sum()
    }
}

impl Left {
    fn bytes(&self) -> u64 {
        held(&self.peer, &self.connections)
    }
}

fn held(peer: &Peer, connections: &[Arc<Connection>]) -> u64 {
    let payload: u64 = connections.iter().map(|one| one.memory()).sum();
    payload.saturating_add(peer.account.used())
}

impl Node {
    /// Cuts the peers that hold most until `bytes` are freed. Returns what they held.
    pub(super) fn cut_holders(&self, bytes: u64) -> u64 {
        let mut peers = self.0.streams.peers.list();
        peers.retain(|(_, peer)| !peer.connections().iter().all(|one| one.is_cut()));
        let holders: Vec<_> = peers.into_iter().map(holder).collect();
        let mut freed = self.0.leaving.bytes();
        let wanted = bytes.saturating_sub(freed);
        let mut chosen = select(holders.clone(), wanted);
        if chosen.is_empty() {
            // Nobody is known to hold anything. Some may without our knowing.
            chosen = select(holders.into_iter().map(unseen).collect(), wanted);
        }
        for Holder { peer, bytes, .. } in chosen {
            let (id, peer) = peer;
            Limit::MemoryCut.hit();
            let connections = peer.connections();
            for connection in &connections {
                tracing::debug!(peer = %id, remote = %connection.remote, bytes, "connection cut for memory");
                connection.cut();
            }
            self.0.leaving.add(peer, connections);
            freed = freed.saturating_add(bytes);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Peers of one prefix, in the order in which they came.
    fn holders(start: Instant, prefix: u8, held: &[u64]) -> Vec<Holder<u64>> {
        let holder = |(second, bytes): (u64, &u64)| Holder {
            peer: *bytes / MIB,
            bytes: *bytes,
            prefix: Some(IpAddr::from([10, 0, 0, prefix])),
            since: start + Duration::from_secs(second),
        };
        (0..).zip(held).map(holder).collect()
    }

    fn cut(holders: Vec<Holder<u64>>, bytes: u64) -> Vec<u64> {
        let cut = select(holders, bytes);
        cut.into_iter().map(|holder| holder.peer).collect()
    }

    #[test]
    fn those_that_hold_most_are_cut_and_those_with_little_spared() {
        let one = |held: &[u64], bytes| cut(holders(Instant::now(), 1, held), bytes);
        let held = [MIB, 50 * MIB, 2 * MIB, 90 * MIB, 3 * MIB];
        assert_eq!(one(&held, 60 * MIB), [90]);
        assert_eq!(one(&held, 100 * MIB), [90, 50]);
        // The share of each is 40 MiB: no small one is cut, however much is wanted.
        assert_eq!(one(&held, 200 * MIB), [90, 50]);
        assert_eq!(one(&[MIB; 8], 5 * MIB), [1; 5]);
        assert!(one(&[1000; 100], MIB).is_empty());
        assert!(one(&[], MIB).is_empty());
        assert!(one(&held, 0).is_empty());
    }

    #[test]
    fn if_nobody_stands_out_the_largest_prefix_goes_newest_first() {
        let start = Instant::now();
        // 100 MiB are wanted of seven: each would have to hold 14.
        let all = || {
            let mut all = holders(start, 1, &[9 * MIB, 8 * MIB]);
            all.extend(holders(start, 2, &[5 * MIB, 6 * MIB, 7 * MIB, 4 * MIB]));
            all.extend(holders(start, 3, &[1000]));
            all
        };
        assert_eq!(cut(all(), 100 * MIB), [4, 7, 6, 5, 8, 9]);
        // Somebody who stands out goes alone.
        let mut one_more = all();
        one_more.extend(holders(start, 3, &[20 * MIB]));
        assert_eq!(cut(one_more, 100 * MIB), [20]);
    }
}
