//! Which addresses become targets of a dial, names resolved.

use futures::FutureExt as _;
use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    super::{
        Cause,
        names::{MAX_RESOLVED, has_name, is_name},
        ranking::{History, rank},
        resolved::Resolved,
        target::{Candidate, Origin, State, Target},
    },
    Dials, MAX_PER_PEER,
};
use crate::memory::OverBudget;

/// Names being resolved at once; further ones wait (SECURITY.md 3).
const MAX_LOOKUPS: usize = 64;

impl Dials {
    /// Adds targets to the peer's dial. Those that have failed already are tried again if they
    /// are `wanted` by a new caller.
    ///
    /// # Errors
    /// If there is no memory for all of them. Those before are dialed.
    pub(super) fn extend(
        &mut self,
        peer: PeerId,
        candidates: Vec<Candidate>,
        wanted: bool,
    ) -> Result<(), OverBudget> {
        let Some(dials) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        let mut charged = Ok(());
        let now = Instant::now();
        let mut fresh: Vec<(usize, History)> = Vec::new();
        let mut names = Vec::new();
        let mut room = MAX_PER_PEER.saturating_sub(dials.unfinished());
        for Candidate {
            address,
            origin,
            history,
        } in candidates
        {
            let known = dials.targets.iter().position(|t| t.address == address);
            let again = known.is_some_and(|at| {
                wanted && matches!(dials.targets[at].state, State::Failed(_) | State::Dropped)
            });
            if (known.is_some() && !again) || room == 0 {
                continue;
            }
            if known.is_none() {
                charged = dials.charge_target(&address);
                if charged.is_err() {
                    break;
                }
            }
            room -= 1;
            let is_name = is_name(&address);
            // A secure websocket is dialed by name. What the name stands for has to be looked at
            // first if somebody told it.
            let checked = has_name(&address) && origin != Origin::Given;
            let state = if is_name || checked {
                names.push((peer, dials.id, address.clone(), origin));
                State::Resolving
            } else {
                State::Waiting(now)
            };
            let target = Target {
                address,
                state,
                own_port: false,
            };
            let at = known.unwrap_or(dials.targets.len());
            if matches!(target.state, State::Waiting(_)) {
                fresh.push((at, history));
            }
            match dials.targets.get_mut(at) {
                Some(old) => *old = target,
                None => dials.targets.push(target),
            }
        }
        let ranked: Vec<_> = fresh
            .iter()
            .map(|(at, history)| (&dials.targets[*at].address, *history))
            .collect();
        for (start, (at, _)) in rank(&ranked).into_iter().zip(fresh) {
            dials.targets[at].state = State::Waiting(now + start);
        }
        self.waiting_names.extend(names);
        self.look_up();
        charged
    }

    /// Starts lookups while there is room for them.
    fn look_up(&mut self) {
        while self.lookups.len() < MAX_LOOKUPS
            && let Some((peer, dial, name, origin)) = self.waiting_names.pop()
        {
            if self.peers.get(&peer).is_none_or(|dials| dials.id != dial) {
                continue;
            }
            let names = self.names.clone();
            let lookup = async move {
                let found = names.resolve(peer, name.clone()).await;
                Resolved {
                    peer,
                    dial,
                    name,
                    origin,
                    found,
                }
            };
            self.lookups.push(lookup.boxed());
        }
    }

    /// A name has been resolved. What may not be dialed is no longer in `resolved.found`.
    pub(in crate::node) fn resolved(&mut self, resolved: Resolved) {
        let Resolved {
            peer,
            dial,
            name,
            origin,
            found,
        } = resolved;
        self.look_up();
        let Some(dials) = self.peers.get_mut(&peer).filter(|dials| dials.id == dial) else {
            return;
        };
        let Some(target) = dials.targets.iter_mut().find(|t| t.address == name) else {
            return;
        };
        match found {
            Err(reason) => target.state = State::Failed(Cause::Name(reason)),
            Ok(found) if found.is_empty() => target.state = State::Dropped,
            // Its name has been looked at and stays.
            Ok(_) if !is_name(&name) => target.state = State::Waiting(Instant::now()),
            Ok(mut found) => {
                found.truncate(MAX_RESOLVED);
                target.state = State::Resolved(found.clone());
                let candidate = |address| Candidate::new(address, origin);
                let found = found.into_iter().map(candidate).collect();
                // Callers wait for those that there was memory for.
                let _ = self.extend(peer, found, false);
            }
        }
        self.settle(peer);
    }
}
