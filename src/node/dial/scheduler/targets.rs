//! Which addresses become targets of a dial, names resolved.

use futures::FutureExt as _;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::{
    super::{
        Cause,
        names::{MAX_RESOLVED, has_name, is_name},
        ranking::History,
        resolved::Resolved,
        target::{Candidate, Origin, State, Target},
    },
    Dials, MAX_PER_PEER,
};
use crate::{fixed_limits::fixed_limit, memory::OverBudget};

/// Names being resolved at once; further ones wait (SECURITY.md 3).
const MAX_LOOKUPS: usize = 64;
fixed_limit!("names being resolved", MAX_LOOKUPS);

/// Whether what a name in `address` stands for has to be known before it is dialed. A secure
/// websocket is dialed by name; the name has to be looked at first if somebody told it.
fn is_looked_up(address: &Multiaddr, origin: Origin) -> bool {
    is_name(address) || has_name(address) && origin != Origin::Given
}

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
        let mut fresh: Vec<(usize, History)> = Vec::new();
        let mut room = MAX_PER_PEER.saturating_sub(dials.unfinished());
        for candidate in candidates {
            let known = dials.position(&candidate.address);
            let known_again = known.filter(|at| wanted && dials.targets[*at].is_over());
            if (known.is_some() && known_again.is_none()) || room == 0 {
                continue;
            }
            if known.is_none() {
                charged = dials.charge_target(&candidate.address);
                if charged.is_err() {
                    break;
                }
            }
            room -= 1;
            let at = known.unwrap_or(dials.targets.len());
            let Candidate {
                address,
                origin,
                history,
            } = candidate;
            let state = if is_looked_up(&address, origin) {
                let name = (peer, dials.id, address.clone(), origin);
                self.waiting_names.push(name);
                State::Resolving
            } else {
                fresh.push((at, history));
                State::Waiting(Instant::now())
            };
            dials.set(at, Target::new(address, state));
        }
        dials.rank(fresh);
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
