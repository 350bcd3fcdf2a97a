//! The relays that are known: who is asked for a place when, and who holds one.

mod relay;

use std::{collections::HashMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::reserve::Granted;
use crate::{fixed_limits::fixed_limit, node::Reach};
pub(super) use relay::Held;
use relay::{MAX_PAUSE, Relay, Source, jittered};

/// Relays wanted, beside those that are trusted (go-libp2p's number).
pub(super) const DESIRED: usize = 2;

/// Found relays among which to choose (SECURITY.md 3, go-libp2p's number). Further ones are not
/// remembered.
const MAX_CANDIDATES: usize = 20;
fixed_limit!("autorelay: candidates", MAX_CANDIDATES);

/// Found relays that failed and are left alone for a while (SECURITY.md 3). Of more the one whose
/// time is over first is forgotten.
const MAX_SHUNNED: usize = 256;
fixed_limit!("autorelay: failed relays that are left alone", MAX_SHUNNED);

/// How long a found relay is remembered (go-libp2p's value).
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// So many found relays are choice enough (go-libp2p's number).
const ENOUGH: usize = 4;

/// With less choice, how long to wait for more. go-libp2p waits three minutes.
const WAIT: Duration = Duration::from_secs(5);

/// Pause after a refusal of a found relay.
const REFUSED_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Pause after any other failure of a found relay (go-libp2p's value).
const FAILED_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Between a failure of a found relay and asking the next one.
const NEXT_PAUSE: Duration = Duration::from_secs(1);

/// A place is asked for anew this long before it is over, or after three quarters of a longer
/// life, or half of a shorter one.
const MARGIN: Duration = Duration::from_secs(2 * 60);

/// A relay to be asked.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) relay: PeerId,
    /// Of a trusted one.
    pub(super) addresses: Option<Vec<Multiaddr>>,
    /// It holds a place already.
    pub(super) renews: bool,
}

/// What has become of a request for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Other,
}

/// The relays that are known.
#[derive(Debug)]
pub(super) struct Relays {
    relays: HashMap<PeerId, Relay>,
    shunned: HashMap<PeerId, Instant>,
    /// Relays are looked for, beside those that are trusted.
    discovery: bool,
    /// No found relay is asked before.
    found_after: Instant,
    /// One was asked: there is no more waiting for a choice.
    chosen: bool,
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl Relays {
    pub(super) fn new(
        trusted: impl IntoIterator<Item = (PeerId, Vec<Multiaddr>)>,
        discovery: bool,
        now: Instant,
    ) -> Self {
        let trusted = trusted.into_iter();
        let relays =
            trusted.map(|(peer, addresses)| (peer, Relay::new(Source::Trusted(addresses), now)));
        Self {
            relays: relays.collect(),
            shunned: HashMap::new(),
            discovery,
            found_after: now,
            chosen: false,
            added: 0,
            removed: 0,
        }
    }

    /// A peer that would do as a relay. Whether that is news.
    pub(super) fn found(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.discovery {
            return false;
        }
        if let Some(known) = self.relays.get_mut(&peer) {
            known.seen = now;
            return false;
        }
        if self.shunned.get(&peer).is_some_and(|until| *until > now)
            || self.candidates() >= MAX_CANDIDATES
        {
            return false;
        }
        self.relays.insert(peer, Relay::new(Source::Found, now));
        self.added += 1;
        true
    }

    /// A peer that would not do any more.
    pub(super) fn unfit(&mut self, peer: &PeerId) {
        let goes = |relay: &Relay| relay.is_candidate() && !relay.trying && !relay.proven;
        if self.relays.get(peer).is_some_and(goes) {
            self.forget(peer);
        }
    }

    fn forget(&mut self, peer: &PeerId) {
        if self.relays.remove(peer).is_some() {
            self.removed += 1;
        }
    }

    /// Found relays that hold no place.
    pub(super) fn candidates(&self) -> usize {
        self.count(Relay::is_candidate)
    }

    fn count(&self, wanted: impl Fn(&Relay) -> bool) -> usize {
        self.relays.values().filter(|relay| wanted(relay)).count()
    }

    /// Whether a place is being asked for.
    pub(super) fn is_trying(&self) -> bool {
        self.relays.values().any(|relay| relay.trying)
    }

    /// Whether all trusted relays have been tried, or one has a place.
    pub(super) fn is_settled(&self) -> bool {
        let mut all = self.relays.values();
        all.clone().any(|relay| relay.held.is_some())
            || all.all(|relay| relay.tried || !relay.is_trusted())
    }

    /// How many more places found relays are to give.
    pub(super) fn missing(&self) -> usize {
        let taken = self.count(|relay| relay.held.is_some() || relay.trying);
        match self.discovery {
            true => DESIRED.saturating_sub(taken),
            false => 0,
        }
    }

    /// How many found relays could be asked now.
    pub(super) fn ready(&self, now: Instant) -> usize {
        self.count(|relay| relay.is_candidate() && !relay.trying && relay.not_before <= now)
    }

    /// Relays that hold places, trusted ones first, each with its place.
    pub(super) fn held(&self) -> Vec<(PeerId, bool, Held)> {
        let held = self.relays.iter().filter_map(|(peer, relay)| {
            let held = relay.held.clone()?;
            Some((*peer, relay.is_trusted(), held))
        });
        let mut held: Vec<_> = held.collect();
        // The order must not change from look to look.
        held.sort_by_key(|(peer, trusted, _)| (!trusted, *peer));
        held
    }

    /// Where the operator says that a trusted relay is.
    pub(super) fn named(&self, peer: &PeerId) -> Option<&[Multiaddr]> {
        match &self.relays.get(peer)?.source {
            Source::Trusted(addresses) => Some(addresses),
            Source::Found => None,
        }
    }

    pub(super) fn holds(&self, peer: &PeerId) -> bool {
        self.relays
            .get(peer)
            .is_some_and(|relay| relay.held.is_some())
    }

    /// From when on found relays may be asked, if there are any.
    fn gate(&self) -> Option<Instant> {
        let candidates = self.relays.values().filter(|relay| relay.is_candidate());
        let first = candidates.clone().map(|relay| relay.since).min()?;
        let choice = match self.chosen || candidates.count() >= ENOUGH {
            true => first,
            false => first + WAIT,
        };
        Some(choice.max(self.found_after))
    }

    /// When `relay` is to be asked, if it is.
    fn due(&self, relay: &Relay, reach: Reach) -> Option<Instant> {
        match (&relay.held, &relay.source) {
            _ if relay.trying || reach == Reach::Public => None,
            (Some(held), _) => Some(held.refresh),
            _ if reach == Reach::Unknown => None,
            (None, Source::Trusted(_)) => Some(relay.not_before),
            (None, Source::Found) if self.missing() == 0 => None,
            (None, Source::Found) => Some(relay.not_before.max(self.gate()?)),
        }
    }

    /// The next moment at which something is to be done.
    pub(super) fn next(&self, reach: Reach) -> Option<Instant> {
        let relays = self.relays.values();
        let moments = relays.flat_map(|relay| {
            let over = relay.held.as_ref().map(|held| held.expires);
            [self.due(relay, reach), over]
        });
        moments.flatten().min()
    }

    /// Who is to be asked now; of the found relays those of the lowest `rank`.
    pub(super) fn pick<K: Ord>(
        &mut self,
        reach: Reach,
        now: Instant,
        rank: impl Fn(&PeerId) -> K,
    ) -> Vec<Try> {
        let due = self.relays.iter().filter(|(_, relay)| {
            let due = self.due(relay, reach);
            due.is_some_and(|due| due <= now)
        });
        let (found, mut picked): (Vec<_>, Vec<_>) = due
            .map(|(peer, relay)| (*peer, relay.is_candidate()))
            .partition(|(_, candidate)| *candidate);
        let mut found: Vec<PeerId> = found.into_iter().map(|(peer, _)| peer).collect();
        found.sort_by_cached_key(rank);
        // Those that are trusted and asked in this moment count.
        let asked = picked.iter().filter(|(peer, _)| !self.holds(peer)).count();
        let missing = self.missing().saturating_sub(asked);
        self.chosen |= missing > 0 && !found.is_empty();
        picked.extend(found.into_iter().take(missing).map(|peer| (peer, true)));
        let mut tries = Vec::new();
        for (peer, _) in picked {
            if let Some(relay) = self.relays.get_mut(&peer) {
                relay.trying = true;
                tries.push(Try {
                    relay: peer,
                    addresses: match &relay.source {
                        Source::Trusted(addresses) => Some(addresses.clone()),
                        Source::Found => None,
                    },
                    renews: relay.held.is_some(),
                });
            }
        }
        tries
    }

    /// A relay holds a place from now on. Whether it did not before.
    pub(super) fn succeeded(&mut self, peer: &PeerId, granted: Granted, now: Instant) -> bool {
        let Some(relay) = self.relays.get_mut(peer) else {
            return false;
        };
        let lifetime = granted.lifetime;
        let margin = MARGIN.max(lifetime / 4).min(lifetime / 2);
        relay.trying = false;
        relay.tried = true;
        relay.proven = true;
        relay.failures = 0;
        relay.seen = now;
        let before = relay.held.replace(Held {
            expires: now + lifetime,
            allowance: granted.allowance,
            refresh: now + (lifetime - margin),
        });
        before.is_none()
    }

    /// A request to a relay has failed. Whether a place is lost by that.
    pub(super) fn failed(&mut self, peer: &PeerId, failure: Failure, now: Instant) -> bool {
        let Some(relay) = self.relays.get_mut(peer) else {
            return false;
        };
        relay.trying = false;
        relay.tried = true;
        if let Some(held) = &mut relay.held
            && failure == Failure::Other
        {
            // The place is there until it is over.
            held.refresh = now + MAX_PAUSE;
            return false;
        }
        let lost = relay.held.take().is_some();
        match (failure, &relay.source) {
            (Failure::Refused, Source::Trusted(_)) => relay.not_before = now + jittered(MAX_PAUSE),
            (Failure::Other, Source::Trusted(_)) => relay.back_off(now),
            (Failure::Other, Source::Found) if relay.proven => relay.back_off(now),
            (Failure::Refused, Source::Found) => self.shun(*peer, now, REFUSED_PAUSE),
            (Failure::Other, Source::Found) => self.shun(*peer, now, FAILED_PAUSE),
        }
        lost
    }

    /// Leaves a found relay alone.
    fn shun(&mut self, peer: PeerId, now: Instant, pause: Duration) {
        self.forget(&peer);
        self.found_after = now + NEXT_PAUSE;
        if self.shunned.len() >= MAX_SHUNNED {
            let first = self.shunned.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.shunned.remove(&first);
            }
        }
        self.shunned.insert(peer, now + pause);
    }

    /// The place at a relay is lost; it is asked again soon. False if there was none.
    pub(super) fn lost(&mut self, peer: &PeerId, now: Instant) -> bool {
        let Some(relay) = self.relays.get_mut(peer) else {
            return false;
        };
        let lost = relay.held.take().is_some();
        relay.seen = now;
        relay.failures = 0;
        relay.back_off(now);
        lost
    }

    /// Relays whose places are over. Forgets what is old.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        self.shunned.retain(|_, until| *until > now);
        let old = self.relays.iter().filter(|(_, relay)| {
            relay.is_candidate() && !relay.trying && relay.seen + MAX_AGE <= now
        });
        let old: Vec<_> = old.map(|(peer, _)| *peer).collect();
        old.iter().for_each(|peer| self.forget(peer));
        let over = self.relays.iter().filter(|(_, relay)| {
            let held = relay.held.as_ref();
            held.is_some_and(|held| held.expires <= now)
        });
        over.map(|(peer, _)| *peer).collect()
    }
}

#[cfg(test)]
mod tests;
