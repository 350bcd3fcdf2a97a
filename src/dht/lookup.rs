//! The walk towards a key: ask those who are closest, learn of closer ones, ask them.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout_at};

use super::{
    Inner, PeerInfo, QueryError,
    key::{Distance, Key},
    message::{self, MAX_ADDRESSES, Message},
    rpc::{Answer, RpcError},
    table::K,
};
use crate::{fixed_limits::fixed_limit, memory::Charge, node::StreamError, telemetry::Chain};

/// Requests under way in one lookup (go-libp2p-kad-dht's concurrency).
const ALPHA: usize = 10;
fixed_limit!("DHT: requests under way in one lookup", ALPHA);

/// Peers remembered in one lookup; of more, the farthest are forgotten (SECURITY.md 3).
const MAX_CANDIDATES: usize = 1000;
fixed_limit!("DHT: peers remembered in one lookup", MAX_CANDIDATES);

/// Bytes of addresses that are heard of in one lookup (SECURITY.md 3). Further peers are known
/// without any.
const MAX_HEARD: usize = 1 << 20;
fixed_limit!("DHT: addresses heard of in one lookup", bytes MAX_HEARD);

/// Bytes that an address takes beside its own.
const ADDRESS: usize = 64;

/// How often a peer is tried again because others name further addresses of it.
const MAX_RETRIES: usize = 3;

/// While the peer that is sought is being dialed, nobody else is for so long: mostly it is there,
/// and nobody needs the others.
const HOLD: Duration = Duration::from_millis(500);
fixed_limit!("DHT: time that others wait for the dial of the peer sought", time HOLD);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Heard,
    Asked,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Candidate {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    state: State,
    /// How often it was tried again because of further addresses.
    retries: usize,
}

type Answered = (Distance, PeerId, Result<Answer, RpcError>);

/// A lookup under way. Dropping it ends it.
pub(super) struct Lookup {
    dht: Arc<Inner>,
    target: Key,
    /// Sought itself: reaching it is all that is asked of it.
    sought: Option<PeerId>,
    /// Until then others are asked only if they are connected.
    hold: Option<Instant>,
    frame: Bytes,
    candidates: BTreeMap<Distance, Candidate>,
    under_way: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Bytes of addresses so far, charged to those who have told them.
    heard: usize,
    charges: Vec<Charge>,
    deadline: Instant,
}

impl Lookup {
    /// Starts from the routing table, towards `key`, asking everybody `request`.
    pub(super) fn start(
        dht: &Arc<Inner>,
        key: &[u8],
        request: &Message,
        deadline: Instant,
    ) -> Result<Self, QueryError> {
        let target = Key::of(key);
        let seeds = dht.table().closest(&target, K);
        if seeds.is_empty() {
            return Err(QueryError::EmptyTable);
        }
        let mut lookup = Self {
            dht: dht.clone(),
            target,
            sought: None,
            hold: None,
            frame: crate::wire::frame::encode(request),
            candidates: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            heard: 0,
            charges: Vec::new(),
            deadline,
        };
        for peer in seeds {
            lookup.hear_of(peer, Vec::new());
        }
        Ok(lookup)
    }

    /// The key is that of this peer, which is connected to as soon as an address of it is known.
    pub(super) fn seek(mut self, peer: PeerId) -> Self {
        self.sought = Some(peer);
        if !self.dht.known_info(peer).addresses.is_empty() {
            self.hear_of(peer, Vec::new());
        }
        self
    }

    /// The next answer, and who gave it; `None` once the closest peers have all answered.
    ///
    /// # Cancel safety
    /// No answer is lost.
    pub(super) async fn next(&mut self) -> Option<(PeerId, Answer)> {
        loop {
            if !self.ask_further() {
                return None;
            }
            let next = self.under_way.next();
            let (distance, peer, result) = match self.hold {
                Some(end) => match timeout_at(end, next).await {
                    Ok(next) => next?,
                    Err(_) => {
                        self.hold = None;
                        continue;
                    }
                },
                None => next.await?,
            };
            if self.sought == Some(peer) {
                self.hold = None;
            }
            let state = match &result {
                Ok(_) => State::Answered,
                Err(_) => State::Failed,
            };
            if let Some(candidate) = self.candidates.get_mut(&distance) {
                // With further addresses it is tried again.
                let retried = state == State::Failed && candidate.state == State::Heard;
                if !retried && candidate.state != State::Answered {
                    candidate.state = state;
                }
            }
            match result {
                Ok(answer) => {
                    self.dht.table().answered(&peer);
                    self.hear_from(&peer, &answer);
                    return Some((peer, answer));
                }
                Err(error) if error.is_own() => {
                    let error = Chain(&error);
                    tracing::debug!(%peer, %error, "DHT request without an answer");
                }
                Err(error) => {
                    let error = Chain(&error);
                    tracing::debug!(%peer, %error, "DHT peer failed");
                    self.dht.counters.failed.fetch_add(1, Ordering::Relaxed);
                    if self.sought != Some(peer) {
                        self.dht.drop_peer(&peer);
                    }
                }
            }
        }
    }

    /// The closest peers that have answered, the closest first.
    pub(super) fn closest(&self) -> Vec<PeerId> {
        self.candidates
            .values()
            .filter(|candidate| candidate.state == State::Answered)
            .take(K)
            .map(|candidate| candidate.peer)
            .collect()
    }

    /// What was heard of where `peer` is.
    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let distance = Key::of(&peer.to_bytes()).distance(&self.target);
        self.candidates
            .get(&distance)
            .map(|candidate| candidate.addresses.clone())
            .unwrap_or_default()
    }

    /// Takes note of whom `teller` names. Their addresses are charged to it; where there is no room
    /// for them, they are left out.
    fn hear_from(&mut self, teller: &PeerId, answer: &Message) {
        let closer = message::closer(answer).map(|closer| self.dht.admitted(teller, closer));
        let closer: Vec<PeerInfo> = closer.collect();
        let addresses = closer.iter().flat_map(|info| &info.addresses);
        let bytes: usize = addresses.map(|address| address.len() + ADDRESS).sum();
        let known = self.dht.node.streams().peers.get(teller);
        let charge = known
            .filter(|_| self.heard + bytes <= MAX_HEARD)
            .and_then(|teller| teller.account.charge(bytes).ok());
        let charged = charge.is_some();
        if charged {
            self.heard += bytes;
        }
        self.charges.extend(charge);
        for info in closer {
            let addresses = if charged { info.addresses } else { Vec::new() };
            self.hear_of(info.id, addresses);
        }
    }

    fn hear_of(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if peer == self.dht.node.peer_id() {
            return;
        }
        let distance = Key::of(&peer.to_bytes()).distance(&self.target);
        let candidate = self.candidates.entry(distance).or_insert(Candidate {
            peer,
            addresses: Vec::new(),
            state: State::Heard,
            retries: 0,
        });
        // Whoever is first may lie: the addresses that all name are tried.
        let mut news = false;
        for address in addresses {
            if candidate.addresses.len() < MAX_ADDRESSES && !candidate.addresses.contains(&address)
            {
                candidate.addresses.push(address);
                news = true;
            }
        }
        let again = matches!(candidate.state, State::Asked | State::Failed);
        if news && again && candidate.retries < MAX_RETRIES {
            candidate.retries += 1;
            // A request that is under way fails by itself; one that succeeds counts.
            candidate.state = State::Heard;
        }
        if self.candidates.len() > MAX_CANDIDATES {
            self.candidates.pop_last();
        }
    }

    /// Asks those of the closest peers that have not been asked. False if none of them is left
    /// to ask or to wait for.
    fn ask_further(&mut self) -> bool {
        let mut open = false;
        let mut next = Vec::new();
        let (dht, sought) = (&self.dht, self.sought);
        let held = |peer: &PeerId| sought != Some(*peer) && !dht.node.is_connected(peer);
        let closest = self
            .candidates
            .iter_mut()
            .filter(|(_, candidate)| candidate.state != State::Failed)
            .take(K);
        for (distance, candidate) in closest {
            match candidate.state {
                State::Asked => open = true,
                State::Heard if self.hold.is_some() && held(&candidate.peer) => open = true,
                State::Heard if self.under_way.len() + next.len() < ALPHA => {
                    candidate.state = State::Asked;
                    if sought == Some(candidate.peer) {
                        self.hold = Some(Instant::now() + HOLD);
                    }
                    next.push((*distance, candidate.peer, candidate.addresses.clone()));
                }
                State::Heard => open = true,
                State::Answered | State::Failed => {}
            }
        }
        open |= !next.is_empty();
        for (distance, peer, addresses) in next {
            let asked = self.ask(distance, peer, addresses);
            self.under_way.push(asked);
        }
        open
    }

    fn ask(
        &self,
        distance: Distance,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> BoxFuture<'static, Answered> {
        let dht = self.dht.clone();
        if self.sought == Some(peer) {
            let deadline = self.deadline;
            return async move {
                let connected = dht.node.connect_directly(peer, addresses, deadline).await;
                let answer = connected
                    .map(|()| Answer::default())
                    .map_err(|error| RpcError::Open(StreamError::Dial(error)));
                (distance, peer, answer)
            }
            .boxed();
        }
        let frame = self.frame.clone();
        async move {
            let answer = dht.rpc.request(peer, addresses, &frame).await;
            (distance, peer, answer)
        }
        .boxed()
    }
}
