//! Which addresses become targets of a dial, names resolved.

use futures::FutureExt as _;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::{
    super::{
        Cause,
        names::{has_name, is_name},
        ranking::History,
        resolved::{PeerName, Resolved},
        target::{Candidate, Origin, State, Target},
    },
    Dials,
};
use crate::{fixed_limits::fixed_limit, memory::OverBudget};

/// Addresses of one peer that are dialed or wait for it (SECURITY.md 3).
const MAX_TARGETS: usize = 512;
fixed_limit!(
    "addresses of one peer that are dialed or wait for it",
    MAX_TARGETS
);

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
        let mut room = MAX_TARGETS.saturating_sub(dials.unfinished());
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
                self.waiting_names.push_back(PeerName {
                    peer,
                    dial: dials.id,
                    address: address.clone(),
                    origin,
                });
                State::Resolving(Vec::new())
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
            && let Some(name) = self.waiting_names.pop_front()
        {
            let dials = self.peers.get(&name.peer);
            if dials.is_none_or(|dials| dials.id != name.dial) {
                continue;
            }
            let search = self.names.search(name.peer, name.address.clone());
            self.lookups.push(Resolved::next(name, search).boxed());
        }
    }

    /// Addresses of a name are known. What may not be dialed is no longer in `resolved.found`.
    pub(in crate::node) fn resolved(&mut self, resolved: Resolved) {
        let Resolved {
            name,
            found,
            search,
        } = resolved;
        let dials = self.peers.get_mut(&name.peer);
        let target = dials
            .filter(|dials| dials.id == name.dial)
            .and_then(|dials| dials.target(&name.address));
        let Some(target) = target else {
            return self.look_up();
        };
        let (peer, origin) = (name.peer, name.origin);
        let State::Resolving(before) = &mut target.state else {
            return self.look_up();
        };
        let mut all = std::mem::take(before);
        let mut news = Vec::new();
        target.state = match found {
            // Its name has been looked at and stays.
            Ok(found) if !is_name(&name.address) && !found.is_empty() => {
                State::Waiting(Instant::now())
            }
            Ok(found) => {
                all.extend(found.iter().cloned());
                news = found;
                match &search {
                    Some(_) => State::Resolving(all),
                    None if all.is_empty() => State::Dropped,
                    None => State::Resolved(all),
                }
            }
            Err(reason) => State::Failed(Cause::Name(reason)),
        };
        if let Some(search) = search {
            self.lookups.push(Resolved::next(name, search).boxed());
        }
        self.look_up();
        let candidate = |address| Candidate::new(address, origin);
        // Callers wait for those that there was memory for.
        let _ = self.extend(peer, news.into_iter().map(candidate).collect(), false);
        self.settle(peer);
    }
}
