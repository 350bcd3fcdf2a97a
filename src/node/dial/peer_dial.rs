//! What is under way towards one peer, and who waits for it.

use std::collections::HashSet;

use libp2p::Multiaddr;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Cause, DialError, MAX_PER_PEER,
    race::Race,
    ranking::{History, rank},
    target::{State, Target},
};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Charge, OverBudget},
    metrics,
};

/// Bytes charged for an address that is dialed, beside its own (SECURITY.md 3).
const TARGET: usize = 256;
fixed_limit!("memory charged for an address beside its own bytes", bytes TARGET);

/// The answer to a caller.
pub(in crate::node) type Reply = oneshot::Sender<Result<(), DialError>>;

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) reply: Reply,
}

/// What is under way towards one peer.
#[derive(Debug)]
pub(super) struct PeerDial {
    pub(super) id: u64,
    pub(super) race: Race,
    pub(super) targets: Vec<Target>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) running: usize,
    /// For all targets, also those that have failed: callers may bring further ones for as long as
    /// somebody waits.
    pub(super) charge: Charge,
    pub(super) metrics: metrics::PeerDial,
}

impl PeerDial {
    /// Charges for one more target.
    pub(super) fn charge_target(&mut self, address: &Multiaddr) -> Result<(), OverBudget> {
        let held = usize::try_from(self.charge.bytes()).unwrap_or(usize::MAX);
        let more = TARGET.saturating_add(address.len());
        self.charge.resize(held.saturating_add(more))
    }

    pub(super) fn target(&mut self, address: &Multiaddr) -> Option<&mut Target> {
        self.targets.iter_mut().find(|t| t.address == *address)
    }

    pub(super) fn position(&self, address: &Multiaddr) -> Option<usize> {
        self.targets.iter().position(|t| t.address == *address)
    }

    /// Puts `target` in the place `at`, or behind all others.
    pub(super) fn set(&mut self, at: usize, target: Target) {
        match self.targets.get_mut(at) {
            Some(old) => *old = target,
            None => self.targets.push(target),
        }
    }

    /// Decides when each of these targets is dialed.
    pub(super) fn rank(&mut self, fresh: Vec<(usize, History)>) {
        let now = Instant::now();
        let ranked: Vec<_> = fresh
            .iter()
            .map(|(at, history)| (&self.targets[*at].address, *history))
            .collect();
        for (start, (at, _)) in rank(&ranked).into_iter().zip(fresh) {
            self.targets[at].state = State::Waiting(now + start);
        }
    }

    pub(super) fn unfinished(&self) -> usize {
        let finished = |target: &&Target| {
            matches!(
                target.state,
                State::Failed(_) | State::Dropped | State::Resolved(_)
            )
        };
        self.targets.len() - self.targets.iter().filter(finished).count()
    }

    /// When the next target starts: at once while nothing else is under way, and not before one
    /// ends while as many are as may be.
    pub(super) fn next_start(&self) -> Option<Instant> {
        if self.running >= MAX_PER_PEER {
            return None;
        }
        let starts = self.targets.iter().filter_map(|target| match target.state {
            State::Waiting(at) => Some(at),
            _ => None,
        });
        let first = starts.min()?;
        Some(if self.running == 0 {
            first.min(Instant::now())
        } else {
            first
        })
    }

    /// Why each of `addresses` has failed, once all have; those of names in their place.
    pub(super) fn failures(&self, addresses: &[Multiaddr]) -> Option<Vec<(Multiaddr, Cause)>> {
        let mut failures = Vec::new();
        let mut seen: HashSet<&Multiaddr> = HashSet::new();
        let mut pending: Vec<&Multiaddr> = addresses.iter().rev().collect();
        while let Some(address) = pending.pop() {
            if !seen.insert(address) {
                continue;
            }
            let target = self.targets.iter().find(|t| t.address == *address);
            match target.map(|target| &target.state) {
                Some(State::Failed(cause)) => failures.push((address.clone(), cause.clone())),
                Some(State::Resolved(found)) => pending.extend(found.iter().rev()),
                // There was no room for it.
                Some(State::Dropped) | None => {}
                Some(State::Resolving(_) | State::Waiting(_) | State::Running(_)) => return None,
            }
        }
        Some(failures)
    }
}
