//! What the log is told, so that a person can follow the daemon: peers, clients, bootstrap peers,
//! addresses and circuits as they come and go.
//!
//! Each is told at most once in an interval, however often strangers connect, and in a line of
//! bounded length.

use std::{collections::HashSet, sync::Arc};

use libp2p::{Multiaddr, PeerId};

use super::Sources;
use crate::node::Node;

/// Peers that a line names. Of more it tells how many there are.
const MAX_NAMED: usize = 4;

/// What there is at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    peers: HashSet<PeerId>,
    /// So far.
    peers_came: u64,
    clients: usize,
    /// So far.
    clients_came: u64,
    bootstrap: (usize, usize),
    addresses: Arc<[Multiaddr]>,
    /// Reservations and circuits at this relay.
    relay: (usize, usize),
}

impl Seen {
    pub(super) fn of(sources: &Sources) -> Self {
        let clients = sources.clients.snapshot();
        let relay = sources.relay.as_ref().map(crate::relay::Relay::snapshot);
        Self {
            peers: peers(&sources.node),
            peers_came: sources.node.streams().peers.came(),
            clients: clients.sum(),
            clients_came: clients.came,
            bootstrap: sources.bootstrap(),
            addresses: sources.node.addresses(),
            relay: relay.map_or((0, 0), |relay| (relay.reservations, relay.circuits)),
        }
    }
}

fn peers(node: &Node) -> HashSet<PeerId> {
    let peers = node.streams().peers.list();
    peers.into_iter().map(|(peer, _)| peer).collect()
}

/// Those that came and left between two moments, of which there were `before` and `now`.
fn came_and_left((before, came_before): (usize, u64), (now, came): (usize, u64)) -> (u64, u64) {
    let came = came.saturating_sub(came_before);
    let left = (before as u64 + came).saturating_sub(now as u64);
    (came, left)
}

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Told(Option<Seen>);

impl Told {
    /// Tells what has changed. What is there at first is told at the start, but for who has come
    /// since.
    pub(super) fn tell(&mut self, now: &Seen) {
        let first = Seen {
            bootstrap: now.bootstrap,
            addresses: now.addresses.clone(),
            ..Seen::default()
        };
        let before = self.0.replace(now.clone()).unwrap_or(first);
        tell_peers(&before, now);
        let (came, left) = came_and_left(
            (before.clients, before.clients_came),
            (now.clients, now.clients_came),
        );
        if came + left > 0 {
            tracing::info!(clients = now.clients, came, left, "clients");
        }
        if now.bootstrap != before.bootstrap {
            let (connected, of) = now.bootstrap;
            tracing::info!(connected, of, "bootstrap peers");
        }
        if now.addresses != before.addresses {
            tracing::info!(addresses = ?now.addresses, "addresses");
        }
        if now.relay != before.relay {
            let (reservations, circuits) = now.relay;
            tracing::info!(reservations, circuits, "relaying for others");
        }
    }
}

fn tell_peers(before: &Seen, now: &Seen) {
    let (came, left) = came_and_left(
        (before.peers.len(), before.peers_came),
        (now.peers.len(), now.peers_came),
    );
    if came + left == 0 {
        return;
    }
    let some = |those: &HashSet<PeerId>, without: &HashSet<PeerId>| {
        let named = those.difference(without).take(MAX_NAMED);
        named.map(PeerId::to_string).collect::<Vec<_>>().join(" ")
    };
    tracing::info!(
        peers = now.peers.len(),
        came,
        left,
        new = some(&now.peers, &before.peers),
        gone = some(&before.peers, &now.peers),
        "peers"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_and_left_between_two_looks_is_counted() {
        assert_eq!(came_and_left((0, 0), (0, 0)), (0, 0));
        assert_eq!(came_and_left((0, 0), (2, 3)), (3, 1));
        assert_eq!(came_and_left((5, 10), (5, 11)), (1, 1));
        assert_eq!(came_and_left((5, 10), (0, 10)), (0, 5));
    }
}
