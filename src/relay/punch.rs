//! Hole punching (`/libp2p/dcutr`): two nodes behind NATs that have a circuit between them dial each
//! other at the same time, so that each NAT takes the other's packets for answers.
//!
//! Whoever is called begins (`call`); whoever has called answers (`answer`). The circuit stays.

mod answer;
mod call;
mod message;
mod role;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tokio::{
    select,
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    metrics::{Punched, metrics},
    node::{Manner, Node, Reach},
    streams::Service,
};
use role::Side;

/// The protocol's name.
const PROTOCOL: &str = "/libp2p/dcutr";

/// Time for the dials of one round (go-libp2p).
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
fixed_limit!("hole punching: dials of a round", time DIAL_TIMEOUT);

/// Time for the other side's dials once those of this side have failed.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Addresses of a peer that are dialed in one round (SECURITY.md 3).
const MAX_ADDRESSES: usize = 8;
fixed_limit!("hole punching: addresses dialed at once", MAX_ADDRESSES);

/// Peers that are being punched through to at the same time (SECURITY.md 3).
const MAX_PUNCHES: usize = 32;
fixed_limit!("hole punching: peers at once", MAX_PUNCHES);

/// Rounds answered for one peer in [`WINDOW`] (SECURITY.md 3): two circuits' worth.
const MAX_ROUNDS: usize = 6;
fixed_limit!(
    "hole punching: rounds answered for one peer in a minute",
    MAX_ROUNDS
);

/// Peers whose rounds are remembered (SECURITY.md 3).
const MAX_REMEMBERED: usize = 256;
fixed_limit!(
    "hole punching: peers whose rounds are remembered",
    MAX_REMEMBERED
);

/// Time in which the rounds of one peer are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// The rounds of the peers that were answered lately.
#[derive(Debug, Default)]
struct Rounds(HashMap<PeerId, (Instant, usize)>);

impl Rounds {
    /// The number of the peer's next round, from 0 on. None if it has had enough.
    fn next(&mut self, peer: PeerId, now: Instant) -> Option<usize> {
        self.0
            .retain(|_, (begun, _)| now.duration_since(*begun) < WINDOW);
        let known = self.0.contains_key(&peer);
        if !known && self.0.len() >= MAX_REMEMBERED {
            return None;
        }
        let (_, rounds) = self.0.entry(peer).or_insert((now, 0));
        *rounds += 1;
        (*rounds <= MAX_ROUNDS).then_some(*rounds - 1)
    }
}

/// One round, as this node sees it.
#[derive(Debug, Clone, Copy)]
struct Round {
    side: Side,
    manner: Manner,
    /// As metrics count it, from 1 on.
    number: usize,
}

/// Punches holes.
#[derive(Debug)]
pub struct Puncher {
    node: Node,
    /// Peers that are being punched through to.
    busy: Mutex<HashSet<PeerId>>,
    places: Semaphore,
    answered: Mutex<Rounds>,
}

/// A peer's only punch.
#[derive(Debug)]
struct Busy<'a> {
    puncher: &'a Puncher,
    peer: PeerId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.puncher.busy.lock().remove(&self.peer);
    }
}

impl Puncher {
    /// For peers of `node`.
    #[must_use]
    pub fn new(node: Node) -> Arc<Self> {
        Arc::new(Self {
            node,
            busy: Mutex::default(),
            places: Semaphore::new(MAX_PUNCHES),
            answered: Mutex::default(),
        })
    }

    /// Answers peers that were called, while this node is not known to be public and knows where
    /// its NAT lets it out; until dropped.
    pub async fn serve(self: Arc<Self>) {
        let registry = &self.node.streams().registry;
        let (mut reach, mut seen) = (self.node.watch_reach(), self.node.watch_seen());
        let mut served = false;
        loop {
            let private = *reach.borrow_and_update() != Reach::Public;
            let serves = private && *seen.borrow_and_update();
            if serves != served {
                registry.set_service(PROTOCOL, serves.then(|| self.service()));
                served = serves;
            }
            let changed = select! {
                changed = reach.changed() => changed,
                changed = seen.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn service(self: &Arc<Self>) -> Service {
        let puncher = self.clone();
        Service::new(Box::new(move |inbound| {
            let puncher = puncher.clone();
            Box::pin(async move { puncher.answer(inbound).await })
        }))
    }

    /// The peer's punch, unless it has one.
    fn enter(&self, peer: PeerId) -> Option<Busy<'_>> {
        let puncher = self;
        let entered = self.busy.lock().insert(peer);
        entered.then_some(Busy { puncher, peer })
    }

    /// Where this node's NAT lets it out, as far as any peer has seen it.
    fn own(&self) -> Vec<Multiaddr> {
        let mut own = self.node.observed_addresses(1);
        own.truncate(MAX_ADDRESSES);
        own
    }

    /// Dials `addresses` of a peer that does the same at this moment. Whether there is a direct
    /// connection.
    async fn dial(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        Round {
            side,
            manner,
            number,
        }: Round,
    ) -> bool {
        let node = &self.node;
        let dials = async {
            let punch = node.punch(peer, addresses.clone(), manner);
            // A NAT that lets in everybody lets in this, whatever port the other one gives it, and
            // whichever side takes itself for the one that speaks first.
            let plain = async {
                sleep(side.patience()).await;
                node.punch(peer, addresses.clone(), Manner::Plain).await
            };
            tokio::pin!(punch, plain);
            let first = select! {
                punched = &mut punch => match punched {
                    None => plain.await,
                    punched => punched,
                },
                dialed = &mut plain => match dialed {
                    None => punch.await,
                    dialed => dialed,
                },
            };
            if first.is_some() {
                // It takes a moment to be listed.
                std::future::pending::<()>().await;
            }
            sleep(LAST_CHANCE).await;
        };
        let connected = node.connected_without_relay(peer);
        let direct = async {
            select! {
                biased;
                remote = connected => Some(remote),
                () = dials => None,
            }
        };
        let dialed = timeout(DIAL_TIMEOUT, direct).await.ok().flatten();
        let holepunch = &metrics().holepunch;
        for address in &addresses {
            let outcome = match &dialed {
                Some(remote) if remote == address => Punched::Success,
                Some(_) => Punched::Cancelled,
                None => Punched::Failed,
            };
            holepunch.address(side.label(), number, address, outcome);
        }
        tracing::debug!(%peer, ?manner, remote = dialed.as_ref().map(tracing::field::display), "dialed at the same time");
        dialed.is_some()
    }

    /// The remote address of a connection to `peer` that does not run through a relay.
    fn direct(&self, peer: PeerId) -> Option<Multiaddr> {
        let peer = self.node.streams().peers.get(&peer)?;
        Some(peer.direct_connection()?.remote.clone())
    }

    /// A place among the punches, or a mark in the list of limits.
    fn place(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let place = self.places.try_acquire().ok();
        if place.is_none() {
            Limit::Punches.hit();
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_rounds_in_a_minute_and_few_peers_are_remembered() {
        let mut rounds = Rounds::default();
        let (peer, now) = (PeerId::random(), Instant::now());
        let given: Vec<_> = (0..1_000_000)
            .filter_map(|_| rounds.next(peer, now))
            .collect();
        assert_eq!(given, [0, 1, 2, 3, 4, 5]);
        let others = (0..10_000).filter(|_| rounds.next(PeerId::random(), now).is_some());
        assert_eq!(others.count(), MAX_REMEMBERED - 1);
        assert_eq!(rounds.0.len(), MAX_REMEMBERED);
        assert_eq!(rounds.next(peer, now + WINDOW), Some(0));
        assert_eq!(rounds.0.len(), 1);
    }
}
