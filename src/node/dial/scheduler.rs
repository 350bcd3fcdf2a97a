//! The one place that decides which address of which peer is dialed when.
//!
//! It knows no swarm. [`Dials::next`] says what to dial, and the driver says what became of it.
//! All callers that want the same peer share one race: addresses that a later caller brings are
//! dialed at once beside those under way. Each caller has an answer of its own, and when the last
//! of them has gone the dials end.

mod targets;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    Cause, DialError,
    names::Names,
    peer_dial::{PeerDial, Reply, Waiter},
    race::Race,
    resolved::{PeerName, Resolved},
    target::{Candidate, State},
};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Ledger, OverBudget},
    metrics,
    node::peer_address::is_relayed,
};

/// Addresses of one peer that are dialed at once (SECURITY.md 3).
pub(super) const MAX_PER_PEER: usize = 100;
fixed_limit!("addresses of one peer being dialed", MAX_PER_PEER);

/// One raw dial to make.
#[derive(Debug)]
pub(in crate::node) struct Start {
    pub(in crate::node) peer: PeerId,
    pub(in crate::node) address: Multiaddr,
    pub(in crate::node) own_port: bool,
    pub(in crate::node) race: Race,
}

/// What the driver has to do.
pub(in crate::node) enum Due {
    /// Dial, and report by [`Dials::started`] or [`Dials::refused`].
    Start(Start),
    /// These were resolved from a name that somebody told; [`Dials::resolved`] takes those that
    /// may be dialed.
    Resolved(Box<Resolved>),
}

#[derive(Debug)]
struct Running {
    peer: PeerId,
    dial: u64,
}

/// All dials under way.
pub(in crate::node) struct Dials {
    limit: usize,
    ledger: Arc<Ledger>,
    names: Names,
    peers: HashMap<PeerId, PeerDial>,
    /// Raw dials that the swarm has not finished.
    running: HashMap<ConnectionId, Running>,
    lookups: FuturesUnordered<BoxFuture<'static, Resolved>>,
    /// Names that wait for their turn to be looked up.
    waiting_names: VecDeque<PeerName>,
    /// Complete when a caller has gone.
    gone: FuturesUnordered<BoxFuture<'static, (PeerId, u64)>>,
    last_id: u64,
}

impl Dials {
    /// With at most `limit` raw dials at once. What a dial holds is charged to the prefix of the
    /// first address.
    pub(in crate::node) fn new(limit: usize, ledger: Arc<Ledger>) -> Self {
        Self {
            limit: limit.max(1),
            ledger,
            names: Names::default(),
            peers: HashMap::new(),
            running: HashMap::new(),
            lookups: FuturesUnordered::new(),
            waiting_names: VecDeque::new(),
            gone: FuturesUnordered::new(),
            last_id: 0,
        }
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Dials `candidates` for a caller, who has gone when `gone` completes.
    pub(in crate::node) fn add(
        &mut self,
        peer: PeerId,
        candidates: Vec<Candidate>,
        reply: Reply,
        gone: oneshot::Receiver<Infallible>,
    ) {
        let (id, dial) = (self.id(), self.id());
        self.gone.push(gone.map(move |_| (peer, id)).boxed());
        let addresses: Vec<_> = candidates.iter().map(|c| c.address.clone()).collect();
        let ledger = &self.ledger;
        let dials = self.peers.entry(peer).or_insert_with(|| {
            let account = addresses
                .first()
                .map_or_else(|| ledger.client(), |first| ledger.peer(first));
            PeerDial {
                id: dial,
                race: Race::default(),
                targets: Vec::new(),
                waiters: Vec::new(),
                running: 0,
                metrics: metrics::PeerDial::begin(),
                charge: account.empty_charge(),
            }
        });
        dials.waiters.push(Waiter {
            id,
            addresses,
            reply,
        });
        if let Err(error) = self.extend(peer, candidates, true) {
            self.refuse_idle(peer, error);
        }
        self.settle(peer);
    }

    /// What to do next; waits until there is something. May be dropped at any time.
    pub(in crate::node) async fn next(&mut self) -> Due {
        loop {
            if let Some(start) = self.due(Instant::now()) {
                return Due::Start(start);
            }
            let at = self.next_start();
            tokio::select! {
                Some(resolved) = self.lookups.next() => return Due::Resolved(Box::new(resolved)),
                Some((peer, waiter)) = self.gone.next() => self.leave(peer, waiter),
                Some(()) = OptionFuture::from(at.map(sleep_until)) => {}
                else => return std::future::pending().await,
            }
        }
    }

    fn next_start(&self) -> Option<Instant> {
        if self.running.len() >= self.limit {
            return None;
        }
        self.peers.values().filter_map(PeerDial::next_start).min()
    }

    /// The next dial whose time has come. The peer with the fewest dials under way goes first, so
    /// that one with many addresses does not keep others from theirs.
    fn due(&mut self, now: Instant) -> Option<Start> {
        if self.running.len() >= self.limit {
            return None;
        }
        let ready = self
            .peers
            .iter_mut()
            .filter(|(_, dials)| dials.next_start().is_some_and(|at| at <= now));
        let (peer, dials) = ready.min_by_key(|(_, dials)| dials.running)?;
        let target = dials
            .targets
            .iter()
            .filter_map(|target| match target.state {
                State::Waiting(at) => Some((at, target)),
                _ => None,
            })
            .min_by_key(|(at, _)| *at)?
            .1;
        Some(Start {
            peer: *peer,
            address: target.address.clone(),
            own_port: target.own_port,
            race: dials.race.clone(),
        })
    }

    /// The swarm dials what [`Dials::next`] said.
    pub(in crate::node) fn started(&mut self, start: &Start, connection: ConnectionId) {
        let Some(dials) = self.peers.get_mut(&start.peer) else {
            return;
        };
        dials.running += 1;
        dials.metrics.tried += 1;
        if let Some(target) = dials.target(&start.address) {
            target.state = State::Running(connection);
        }
        let running = Running {
            peer: start.peer,
            dial: dials.id,
        };
        self.running.insert(connection, running);
    }

    /// The swarm does not dial what [`Dials::next`] said. No reason means that the address is
    /// this host's own.
    pub(in crate::node) fn refused(&mut self, start: &Start, cause: Option<Cause>) {
        if let Some(dials) = self.peers.get_mut(&start.peer)
            && let Some(target) = dials.target(&start.address)
        {
            target.state = cause.map_or(State::Dropped, State::Failed);
        }
        self.settle(start.peer);
    }

    /// A raw dial has failed. Whether it was one that somebody waits for.
    pub(in crate::node) fn failed(&mut self, connection: ConnectionId, cause: &Cause) -> bool {
        let Some(Running { peer, dial }) = self.running.remove(&connection) else {
            return false;
        };
        let Some(dials) = self.peers.get_mut(&peer).filter(|dials| dials.id == dial) else {
            return false;
        };
        dials.running = dials.running.saturating_sub(1);
        let running = dials
            .targets
            .iter_mut()
            .find(|target| matches!(target.state, State::Running(id) if id == connection));
        let circuit = running
            .as_ref()
            .is_some_and(|target| is_relayed(&target.address));
        let mut noted = false;
        if let Some(target) = running {
            if *cause == Cause::Cancelled {
                // Another one has completed; the swarm is about to say so.
                target.state = State::Dropped;
            } else if matches!(cause, Cause::Other(_)) && !target.own_port && !circuit {
                // Two dials that cross between listening ports become one tcp connection on
                // which both sides act as its dialer. From a port of its own, a dial cannot.
                target.own_port = true;
                target.state = State::Waiting(Instant::now());
            } else {
                target.state = State::Failed(cause.clone());
                noted = true;
            }
        }
        self.settle(peer);
        noted
    }

    /// There is a connection to `peer`. Its other dials end if it is a dialed one, `connection`.
    /// After an inbound one they go on: the other side may end that one in favour of ours.
    pub(in crate::node) fn connected(&mut self, peer: &PeerId, connection: ConnectionId) {
        let dialed = self.running.remove(&connection).is_some();
        let Some(mut dials) = self.peers.remove(peer) else {
            return;
        };
        dials.metrics.succeeded = true;
        if dialed {
            dials.race.cancel();
        }
        for waiter in dials.waiters {
            // A caller that has gone needs no answer.
            let _ = waiter.reply.send(Ok(()));
        }
    }

    /// A limit of this daemon forbids connections to `peer`, or they are closed as asked.
    pub(in crate::node) fn abandon(&mut self, peer: &PeerId, error: &DialError) {
        if let Some(dials) = self.peers.remove(peer) {
            dials.race.cancel();
            for waiter in dials.waiters {
                let _ = waiter.reply.send(Err(error.clone()));
            }
        }
    }

    /// A raw dial has ended in an error that is about its peer, not about its address.
    pub(in crate::node) fn failed_for_all(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(Running { peer, dial }) = self.running.remove(&connection) else {
            return;
        };
        if self.peers.get(&peer).is_some_and(|dials| dials.id == dial) {
            self.abandon(&peer, error);
        }
    }

    fn leave(&mut self, peer: PeerId, waiter: u64) {
        if let Some(dials) = self.peers.get_mut(&peer) {
            dials.waiters.retain(|other| other.id != waiter);
            if dials.waiters.is_empty() {
                dials.race.cancel();
                self.peers.remove(&peer);
            }
        }
    }

    /// Answers callers of whom not one address is dialed, since there was no memory for it.
    fn refuse_idle(&mut self, peer: PeerId, error: OverBudget) {
        let Some(dials) = self.peers.get_mut(&peer) else {
            return;
        };
        let targets = &dials.targets;
        let is_idle = |waiter: &mut Waiter| {
            let mut addresses = waiter.addresses.iter();
            !addresses.any(|address| targets.iter().any(|target| target.address == *address))
        };
        for waiter in dials.waiters.extract_if(.., is_idle) {
            let refusal = DialError::Denied(error.to_string());
            let _ = waiter.reply.send(Err(refusal));
        }
    }

    /// Answers callers whose addresses have all failed. After those of the first batch have
    /// failed, the next need not wait for their time.
    fn settle(&mut self, peer: PeerId) {
        let Some(dials) = self.peers.get_mut(&peer) else {
            return;
        };
        let waiters = std::mem::take(&mut dials.waiters);
        for waiter in waiters {
            match dials.failures(&waiter.addresses) {
                None => dials.waiters.push(waiter),
                Some(failures) => {
                    let error = if failures.is_empty() {
                        DialError::NoAddresses(peer)
                    } else {
                        DialError::AllFailed(peer, failures)
                    };
                    let _ = waiter.reply.send(Err(error));
                }
            }
        }
        if dials.waiters.is_empty() {
            dials.race.cancel();
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Origin, *};

    /// Addresses of one peer, and where its answer comes.
    fn add(
        dials: &mut Dials,
        peer: PeerId,
        count: u8,
    ) -> (
        oneshot::Receiver<Result<(), DialError>>,
        oneshot::Sender<Infallible>,
    ) {
        let (reply, answer) = oneshot::channel();
        let (waiting, gone) = oneshot::channel();
        let address = |last: u8| format!("/ip4/10.0.0.{last}/tcp/1").parse().unwrap();
        let candidates = (0..count).map(|last| Candidate::new(address(last), Origin::Given));
        dials.add(peer, candidates.collect(), reply, gone);
        (answer, waiting)
    }

    #[tokio::test]
    async fn what_a_dial_holds_is_charged_and_given_back() {
        // A dial may hold 4 KiB, all to one address 16 of them.
        let ledger = Ledger::new(64 << 10);
        let mut dials = Dials::new(256, ledger.clone());
        let peer = PeerId::random();
        let (answer, waiting) = add(&mut dials, peer, 100);
        let targets = dials.peers[&peer].targets.len();
        assert!((10..16).contains(&targets), "{targets} targets");
        assert!(ledger.used() > 2000 && ledger.used() <= 4096);
        // A caller whose addresses are all among them joins, another one hears why not.
        let (mut joined, joins) = add(&mut dials, peer, 5);
        assert!(joined.try_recv().is_err(), "it waits");
        let others: Vec<_> = (0..20)
            .map(|_| add(&mut dials, PeerId::random(), 100))
            .collect();
        let (mut late, _) = add(&mut dials, PeerId::random(), 1);
        let refused = late.try_recv().unwrap().unwrap_err();
        assert_eq!(refused, DialError::Denied(OverBudget.to_string()));
        drop((answer, waiting, joined, joins, others));
        let peers: Vec<_> = dials.peers.keys().copied().collect();
        for peer in peers {
            dials.abandon(&peer, &DialError::ConnectionFailed);
        }
        assert_eq!(ledger.used(), 0);
    }
}
