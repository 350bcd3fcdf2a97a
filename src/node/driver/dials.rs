//! Dials, as the swarm's owner makes them: which addresses may be dialed, and what became of them.

use std::{collections::HashMap, convert::Infallible};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError as SwarmError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{Driver, Via};
use crate::{
    limit_hits::Limit,
    node::{
        address_filter::Scope,
        book::Fate,
        dial::{Attempt, Candidate, Cause, DialError, Due, Origin, Punch, Reply, Start},
        peer_address::is_relayed,
    },
    telemetry::Chain,
};

impl Driver {
    pub(super) fn on_dial(
        &mut self,
        peer: PeerId,
        candidates: Vec<Candidate>,
        via: Via,
        reply: Reply,
        gone: oneshot::Receiver<Infallible>,
    ) {
        let connections = self.connections.get(&peer);
        let answers = |remote: &Multiaddr| via == Via::Any || !is_relayed(remote);
        if connections.is_some_and(|connections| connections.values().any(answers)) {
            let _ = reply.send(Ok(()));
        } else if candidates.is_empty() {
            let _ = reply.send(Err(DialError::NoAddresses(peer)));
        } else {
            self.dials.add(peer, candidates, reply, gone);
        }
    }

    /// `addresses` of `peer` and those known of it, as far as they may be dialed.
    pub(super) fn candidates(
        &self,
        peer: &PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
        via: Via,
    ) -> Vec<Candidate> {
        let known = self.book.candidates(peer);
        let mut candidates: Vec<Candidate> = Vec::new();
        for address in addresses {
            let known = known.iter().find(|known| known.address == address);
            let mut candidate = Candidate::new(address, origin);
            if let Some(known) = known {
                candidate.history = known.history;
                if known.origin == Origin::Given {
                    candidate.origin = known.origin;
                }
            }
            candidates.push(candidate);
        }
        for known in known {
            if !candidates.iter().any(|c| c.address == known.address) {
                candidates.push(known);
            }
        }
        candidates.retain(|candidate| {
            (via == Via::Any || !is_relayed(&candidate.address))
                && self.may_dial(candidate.origin, &candidate.address)
        });
        candidates
    }

    /// Whether an address may be dialed on this word. What is only a name is looked at again once
    /// it is resolved.
    fn may_dial(&self, origin: Origin, address: &Multiaddr) -> bool {
        match origin {
            Origin::Given => true,
            Origin::Told(scope) => self.filter.admits_dial(scope, address),
            // It was checked against its teller when it was heard.
            Origin::Hearsay => self.filter.admits_dial(Scope::of_address(address), address),
        }
    }

    pub(super) fn on_due(&mut self, due: Due) {
        match due {
            Due::Start(start) => self.start_dial(&start),
            Due::Resolved(mut resolved) => {
                let scope = match resolved.origin() {
                    // The client named what leads there, the records themselves are a stranger's.
                    Origin::Given => None,
                    Origin::Told(scope) => Some(scope),
                    Origin::Hearsay => Some(self.network_scope()),
                };
                resolved.retain(|address| match scope {
                    None => true,
                    Some(scope) => self.filter.admits_dial(scope, address),
                });
                self.dials.resolved(*resolved);
            }
        }
    }

    /// The scope of the farthest connected peer: whoever told something is at most that far away.
    fn network_scope(&self) -> Scope {
        let remotes = self.connections.values().flat_map(HashMap::values);
        remotes
            .map(Scope::of_teller)
            .fold(Scope::Loopback, Scope::farther)
    }

    /// Dials from a port that is listened on, where there is one, unless the port is to be new.
    fn start_dial(&mut self, start: &Start) {
        let mut options = DialOpts::peer_id(start.peer)
            .condition(PeerCondition::Always)
            .addresses(vec![start.address.clone()]);
        if start.own_port {
            options = options.allocate_new_port();
        }
        let options = options.build();
        let id = options.connection_id();
        self.next_race.set(start.race.clone());
        let dialed = self.swarm.dial(options);
        self.next_race.clear();
        match dialed {
            Ok(()) => self.dials.started(start, id),
            // It is this host's own.
            Err(SwarmError::NoAddresses) => self.dials.refused(start, None),
            Err(error) => match DialError::from_swarm(&error, start.peer) {
                DialError::AllFailed(_, failures) => {
                    let cause = failures.into_iter().next().map(|(_, cause)| cause);
                    self.dials.refused(start, cause);
                }
                error => self.dials.abandon(&start.peer, &error),
            },
        }
    }

    /// Dials a peer that dials at the same time.
    pub(super) fn on_punch(&mut self, punch: Punch) {
        let attempt = Attempt::new(punch.race.clone(), punch.reply);
        for address in &punch.addresses {
            let options = punch.manner.options(punch.peer, address);
            let id = options.connection_id();
            self.next_race.set(punch.race.clone());
            let dialed = self.swarm.dial(options);
            self.next_race.clear();
            match dialed {
                Ok(()) => self.punches.started(id, &attempt),
                Err(error) => {
                    tracing::debug!(peer = %punch.peer, %address, error = %Chain(&error), "not dialed")
                }
            }
        }
    }

    pub(super) fn on_dial_failed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        error: &SwarmError,
    ) {
        let error = DialError::from_swarm(error, peer);
        if self.punches.failed(connection) {
            // What it says of the address holds for that moment alone.
            tracing::debug!(%peer, error = %Chain(&error), "dial at the same time failed");
            return;
        }
        let DialError::AllFailed(_, failures) = &error else {
            self.dials.failed_for_all(connection, &error);
            return;
        };
        for (address, cause) in failures {
            cause.count(address);
            if self.dials.failed(connection, cause) {
                tracing::debug!(%peer, %address, cause = %Chain(cause), "dial failed");
                self.note_failure(&peer, address, cause);
            }
        }
    }

    /// An address that leads to another peer is forgotten, and so is one that leads nowhere.
    fn note_failure(&self, peer: &PeerId, address: &Multiaddr, cause: &Cause) {
        match cause {
            Cause::PeerIdMismatch(_) => {
                if self.book.wrong(peer, address) == Fate::Forgotten {
                    Limit::WrongPeer.hit();
                }
            }
            _ => {
                if self.book.failed(peer, address) == Fate::Forgotten {
                    Limit::DeadAddress.hit();
                }
            }
        }
    }
}
