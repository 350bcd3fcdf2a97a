//! Finds relays while this node is private, holds places at them, and tells the addresses.

use std::{future::pending, net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{
    addresses::{circuits, of_relay},
    discovery::Came,
    relays::{DESIRED, Failure, Relays, Try},
    reserve::{Granted, ReserveError, reserve},
    snapshot::{Counts, Reservation, Snapshot, State},
};
use crate::{
    memory::prefix,
    node::{Node, Reach},
    relay::message::HOP,
    telemetry::Chain,
};

/// Relays are looked for anew at most this often (go-libp2p's value).
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);

type Tried = (Try, Result<Granted, ReserveError>);

/// What a [`Finder`] is made from.
pub(super) struct Parts {
    pub(super) node: Node,
    pub(super) trusted: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Whether relays are looked for beside those.
    pub(super) discovery: bool,
    pub(super) came: Arc<Came>,
    /// Has relays looked for.
    pub(super) wanted: Arc<Notify>,
    pub(super) told: watch::Sender<Snapshot>,
}

pub(super) struct Finder {
    node: Node,
    relays: Relays,
    discovery: bool,
    desired: usize,
    came: Arc<Came>,
    wanted: Arc<Notify>,
    searched: Option<Instant>,
    /// Something has happened for which relays may be looked for.
    may_search: bool,
    tries: FuturesUnordered<BoxFuture<'static, Tried>>,
    told: watch::Sender<Snapshot>,
    counts: Counts,
    reach: Reach,
    /// What is told is to be made anew.
    changed: bool,
}

impl Finder {
    pub(super) fn new(parts: Parts) -> Self {
        let desired = match parts.discovery {
            true => parts.trusted.len().max(DESIRED),
            false => parts.trusted.len(),
        };
        let mut counts = Counts::default();
        for kind in ["new", "refresh"] {
            counts.requests.insert((kind, "success"), 0);
        }
        Self {
            relays: Relays::new(parts.trusted, parts.discovery, Instant::now()),
            discovery: parts.discovery,
            node: parts.node,
            desired,
            came: parts.came,
            wanted: parts.wanted,
            searched: None,
            may_search: true,
            tries: FuturesUnordered::new(),
            told: parts.told,
            counts,
            reach: Reach::Public,
            changed: true,
        }
    }

    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        let (node, came) = (self.node.clone(), self.came.clone());
        let mut reach = node.watch_reach();
        loop {
            let connections = node.streams().peers.changed();
            tokio::pin!(connections);
            connections.as_mut().enable();
            let now = *reach.borrow_and_update();
            self.turn(now);
            let next = self.relays.next(now);
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((tried, result)) = self.tries.next() => self.tried(&tried, result),
                () = came.notified() => self.look_at_newcomers(),
                Ok(()) = reach.changed() => {}
                () = connections => {}
                () = due => {}
            }
        }
    }

    /// Does what is to be done at this moment.
    fn turn(&mut self, reach: Reach) {
        let now = Instant::now();
        let turned = std::mem::replace(&mut self.reach, reach);
        self.changed |= turned != reach;
        self.may_search |= turned != reach;
        if turned == Reach::Public && reach != Reach::Public {
            self.scan();
        }
        self.drop_lost(now);
        let held = self.prefixes();
        let node = self.node.clone();
        let picked = self
            .relays
            .pick(reach, now, |peer| rank(&node, peer, &held));
        self.changed |= !picked.is_empty();
        for picked in picked {
            let node = self.node.clone();
            let asked = async move {
                let result = reserve(&node, picked.relay, picked.addresses.clone()).await;
                (picked, result)
            };
            self.tries.push(asked.boxed());
        }
        self.search(now);
        self.publish();
    }

    /// Gives up the places of relays that have left, and those that are over.
    fn drop_lost(&mut self, now: Instant) {
        let before = self.relays.candidates();
        let over = self.relays.expire(now);
        self.changed |= self.relays.candidates() != before;
        let gone = |peer: &PeerId| {
            let connected = self.node.streams().peers.get(peer);
            connected.is_none_or(|peer| peer.direct_connection().is_none())
        };
        let held = self.relays.held().into_iter().map(|(peer, ..)| peer);
        let gone: Vec<_> = held.filter(gone).collect();
        for (peers, reason) in [(gone, "disconnected"), (over, "expired")] {
            for peer in peers {
                if self.relays.lost(&peer, now) {
                    self.lost(peer, reason);
                }
            }
        }
    }

    fn lost(&mut self, relay: PeerId, reason: &str) {
        tracing::info!(%relay, reason, "relay lost");
        self.node.unprotect(&relay);
        self.counts.closed += 1;
        self.changed = true;
        self.may_search = true;
    }

    fn tried(&mut self, tried: &Try, result: Result<Granted, ReserveError>) {
        let (now, relay) = (Instant::now(), tried.relay);
        let kind = match tried.renews {
            true => "refresh",
            false => "new",
        };
        let outcome = result
            .as_ref()
            .map_or_else(ReserveError::outcome, |_| "success");
        *self.counts.requests.entry((kind, outcome)).or_default() += 1;
        self.changed = true;
        match result {
            Ok(granted) => {
                if self.relays.succeeded(&relay, granted, now) {
                    self.node.protect(relay);
                    self.counts.opened += 1;
                    let (seconds, limits) = (granted.lifetime.as_secs(), granted.allowance);
                    tracing::info!(%relay, seconds, ?limits, "relay gained");
                }
            }
            Err(error) => {
                tracing::debug!(%relay, kind, error = %Chain(&error), "no place at a relay");
                let failure = match error.is_refusal() {
                    true => Failure::Refused,
                    false => Failure::Other,
                };
                if self.relays.failed(&relay, failure, now) {
                    self.lost(relay, "refused");
                }
            }
        }
    }

    fn look_at_newcomers(&mut self) {
        for peer in self.came.take() {
            self.look_at(peer);
        }
    }

    /// Looks at every connected peer.
    fn scan(&mut self) {
        if self.discovery {
            for peer in self.node.peers_speaking(&[HOP]) {
                self.look_at(peer);
            }
        }
    }

    /// Takes note of a peer that would do as a relay, or would not any more.
    fn look_at(&mut self, peer: PeerId) {
        if self.relays.holds(&peer) {
            // It may be elsewhere now.
            self.changed = true;
            return;
        }
        if self.reach == Reach::Public || !self.discovery {
            return;
        }
        if would_do(&self.node, &peer) {
            if self.relays.found(peer, Instant::now()) {
                self.counts.supported.0 += 1;
                self.changed = true;
            }
        } else {
            self.relays.unfit(&peer);
            self.counts.supported.1 += 1;
            self.changed = true;
        }
    }

    /// Has relays looked for if there are too few.
    fn search(&mut self, now: Instant) {
        let wanted = self.reach == Reach::Private && self.relays.missing() > self.relays.ready(now);
        let due = self
            .searched
            .is_none_or(|last| last + SEARCH_INTERVAL <= now);
        if wanted && due && std::mem::take(&mut self.may_search) {
            self.searched = Some(now);
            self.scan();
            self.wanted.notify_one();
        }
    }

    /// Address prefixes of the relays that hold places.
    fn prefixes(&self) -> Vec<IpAddr> {
        let held = self.relays.held();
        let remotes = held.iter().filter_map(|(peer, ..)| {
            let connected = self.node.streams().peers.get(peer)?;
            prefix(&connected.direct_connection()?.remote)
        });
        remotes.collect()
    }

    fn state(&self) -> State {
        let held = self.relays.held().len();
        match self.reach {
            Reach::Public => State::Idle,
            _ if self.relays.is_trying() => State::Reserve,
            _ if held > 0 && held >= self.desired => State::Hold,
            _ => State::Gather,
        }
    }

    /// Tells the addresses, and whoever wants to know the state.
    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let held = self.relays.held().into_iter();
        let held = held.map(|(relay, trusted, held)| Reservation {
            relay,
            trusted,
            expires: held.expires,
            allowance: held.allowance,
            addresses: of_relay(&self.node, &relay, self.relays.named(&relay)),
        });
        let reservations: Vec<_> = held.collect();
        let told = circuits(&reservations);
        let before: Vec<_> = circuits(&self.told.borrow().reservations);
        if told != before {
            self.counts.updated += 1;
            self.node.set_circuits(told);
        }
        self.counts.candidates = (self.relays.added, self.relays.removed);
        let now = Snapshot {
            state: self.state(),
            candidates: self.relays.candidates(),
            reservations,
            desired: self.desired,
            counts: self.counts.clone(),
            settled: self.relays.is_settled(),
        };
        self.told.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}

/// Relays of other hosts than those that hold places come first, then those that answer fastest.
fn rank(node: &Node, peer: &PeerId, held: &[IpAddr]) -> (bool, Duration) {
    let connected = node.streams().peers.get(peer);
    let connected = connected.as_ref();
    let remote = connected.and_then(|peer| peer.direct_connection());
    let host = remote.and_then(|connection| prefix(&connection.remote));
    let time = connected.and_then(|peer| peer.round_trip());
    (
        host.is_none_or(|host| held.contains(&host)),
        time.unwrap_or(Duration::MAX),
    )
}

/// Whether strangers can reach this node through `peer`: it is connected without a relay, says
/// that it relays, and is itself where strangers are, not behind a relay of its own.
fn would_do(node: &Node, peer: &PeerId) -> bool {
    let Some(connected) = node.streams().peers.get(peer) else {
        return false;
    };
    let relays = || {
        let known = connected.protocols().unwrap_or_default();
        known.iter().any(|name| name == HOP)
    };
    connected.direct_connection().is_some() && relays() && !of_relay(node, peer, None).is_empty()
}
