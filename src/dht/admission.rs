//! Who gets into the routing table.
//!
//! Identify tells who serves. A newcomer has to answer a request of ours before it counts, and
//! before it can take the place of another it is that one which is asked (Kademlia's rule, which
//! go-libp2p-kad-dht follows with `lookupCheck`). So ids that come and go displace nobody who is
//! still there.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use libp2p::PeerId;
use parking_lot::Mutex;

use super::{
    Inner, PROTOCOL,
    table::{Admission, Group},
};
use crate::{fixed_limits::fixed_limit, limit_hits::Limit, memory::prefix, telemetry::Chain};

/// Checks under way (SECURITY.md 3, go-libp2p-kad-dht's `lookupCheckCapacity`): newcomers that are
/// asked, and entries that are because of them.
const MAX_CHECKS: usize = 256;
fixed_limit!("DHT: newcomers being checked", MAX_CHECKS);

/// Newcomers remembered for whom there was no room (SECURITY.md 3). They are offered again when
/// entries have been silent for longer.
const MAX_WAITING: usize = 64;
fixed_limit!("DHT: newcomers that wait for room", MAX_WAITING);

/// Entries that one newcomer may have asked (SECURITY.md 3).
const MAX_CHALLENGES: usize = 3;
fixed_limit!(
    "DHT: entries pinged because of one newcomer",
    MAX_CHALLENGES
);

#[derive(Debug, Default)]
struct State {
    under_way: HashSet<PeerId>,
    waiting: VecDeque<PeerId>,
}

/// Which peers are being asked because of newcomers, and which newcomers wait.
#[derive(Debug, Default)]
pub(super) struct Checks(Arc<Mutex<State>>);

/// A check, for as long as it is under way.
#[derive(Debug)]
pub(super) struct Check {
    peer: PeerId,
    state: Arc<Mutex<State>>,
}

impl Checks {
    /// Begins to ask `peer`. `None` if that is under way already, or too many are.
    fn begin(&self, peer: PeerId) -> Option<Check> {
        let mut state = self.0.lock();
        if state.under_way.contains(&peer) {
            return None;
        }
        if state.under_way.len() >= MAX_CHECKS {
            drop(state);
            Limit::DhtChecks.hit();
            return None;
        }
        state.under_way.insert(peer);
        drop(state);
        Some(Check {
            peer,
            state: self.0.clone(),
        })
    }

    /// Remembers a newcomer for later. Of too many the first is forgotten.
    fn wait(&self, peer: PeerId) {
        let mut state = self.0.lock();
        if state.waiting.contains(&peer) {
            return;
        }
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.pop_front();
        }
        state.waiting.push_back(peer);
    }

    fn take_waiting(&self) -> VecDeque<PeerId> {
        std::mem::take(&mut self.0.lock().waiting)
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.state.lock().under_way.remove(&self.peer);
    }
}

impl Inner {
    /// Takes note of what identify told. Servers are offered to the table.
    pub(super) fn identified(self: &Arc<Self>, peer: &PeerId, protocols: &[String]) {
        if !protocols.iter().any(|name| name == PROTOCOL) {
            self.drop_peer(peer);
            return;
        }
        let group = self.group(peer);
        let connected = |peer: &PeerId| self.node.is_connected(peer);
        let admission = self.table().offer(*peer, group, connected);
        match admission {
            Admission::Known => {}
            Admission::Full => self.checks.wait(*peer),
            Admission::New(replaced) => {
                replaced.iter().for_each(|old| self.store.forget_peer(old));
                self.check(*peer);
            }
            Admission::Challenge(_) => self.check(*peer),
        }
    }

    /// As [`Inner::identified`], by what identify told before.
    pub(super) fn admit_if_serving(self: &Arc<Self>, peer: &PeerId) {
        if let Some(protocols) = self.node.connected_protocols(peer) {
            self.identified(peer, &protocols);
        }
    }

    /// Offers newcomers again for whom there was no room.
    pub(super) fn offer_waiting(self: &Arc<Self>) {
        for peer in self.checks.take_waiting() {
            self.admit_if_serving(&peer);
        }
    }

    /// Takes a peer from the table that has failed, or serves no longer.
    pub(super) fn drop_peer(&self, peer: &PeerId) {
        let known = self.table().remove(peer);
        if known {
            self.store.forget_peer(peer);
        }
    }

    /// Whether an entry of the table answers. One that does not leaves the table.
    pub(super) async fn is_alive(&self, peer: PeerId) -> bool {
        match self.rpc.check(peer).await {
            Ok(()) => self.table().answered(&peer),
            Err(error) if error.is_own() => {}
            Err(error) => {
                let error = Chain(&error);
                tracing::debug!(%peer, %error, "silent DHT peer dropped");
                self.drop_peer(&peer);
                return false;
            }
        }
        true
    }

    /// The network that the peer is met at.
    fn group(&self, peer: &PeerId) -> Option<Group> {
        let connection = self.node.streams().peers.get(peer)?.best_connection()?;
        prefix(&connection.remote).and_then(Group::of)
    }

    fn check(self: &Arc<Self>, peer: PeerId) {
        if let Some(check) = self.checks.begin(peer) {
            let dht = self.clone();
            self.spawn(async move {
                dht.verify(peer).await;
                drop(check);
            });
        }
    }

    /// Asks a newcomer, and finds a place for one that answers.
    async fn verify(&self, peer: PeerId) {
        // It was connected a moment ago. Nobody is dialed to be admitted.
        if !self.node.is_connected(&peer) {
            self.table().remove_unverified(&peer);
            return;
        }
        match self.rpc.check(peer).await {
            Ok(()) => self.settle(peer).await,
            Err(error) if error.is_own() => {}
            Err(error) => {
                let error = Chain(&error);
                tracing::debug!(%peer, %error, "newcomer to the DHT table has not answered");
                self.table().remove_unverified(&peer);
            }
        }
    }

    async fn settle(&self, peer: PeerId) {
        let group = self.group(&peer);
        let connected = |peer: &PeerId| self.node.is_connected(peer);
        for _ in 0..MAX_CHALLENGES {
            let admission = self.table().admit(peer, group, Instant::now(), connected);
            let silent = match admission {
                Admission::Known => return,
                Admission::New(replaced) => {
                    let addresses = self.known_info(peer).addresses;
                    self.store.remember_peer(&peer, &addresses);
                    replaced.iter().for_each(|old| self.store.forget_peer(old));
                    return;
                }
                Admission::Full => return self.checks.wait(peer),
                Admission::Challenge(silent) => silent,
            };
            let Some(_check) = self.checks.begin(silent) else {
                return self.checks.wait(peer);
            };
            self.is_alive(silent).await;
        }
        // Those in its way are alive. The next refresh offers it again.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_asked_once_at_a_time_and_few_are() {
        let checks = Checks::default();
        let first = PeerId::random();
        let check = checks.begin(first).expect("a place");
        assert!(checks.begin(first).is_none(), "twice at a time");
        let mut others: Vec<Check> = (1..MAX_CHECKS)
            .map(|_| checks.begin(PeerId::random()).expect("a place"))
            .collect();
        assert!(checks.begin(PeerId::random()).is_none(), "too many");
        others.pop();
        assert!(checks.begin(PeerId::random()).is_some());
        drop((check, others));
        assert!(checks.begin(first).is_some());
        assert!(checks.0.lock().under_way.is_empty());
    }

    #[test]
    fn of_too_many_that_wait_the_first_is_forgotten() {
        let checks = Checks::default();
        let peers: Vec<PeerId> = (0..MAX_WAITING + 10).map(|_| PeerId::random()).collect();
        for peer in peers.iter().chain(&peers[20..]) {
            checks.wait(*peer);
        }
        assert_eq!(Vec::from(checks.take_waiting()), peers[10..]);
        assert!(checks.take_waiting().is_empty());
    }
}
