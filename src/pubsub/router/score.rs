//! Penalties of peers that break the rules of the protocol.
//!
//! The parts of gossipsub v1.1's score that need no knowledge of the application: P4 (messages that
//! do not validate) and P7 (breaches of the protocol). A score is zero or less. It is kept for a
//! while after the peer has left, so that a new connection does not wipe it out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::fixed_limits::fixed_limit;

/// Time in which penalties fall to half of what they were.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// Breaches without any consequence: an honest peer may be late, or cross a message of ours.
const FREE_BREACHES: f64 = 6.0;

/// The weight of the square of further breaches (P7), and of invalid messages (P4).
const WEIGHT: f64 = -10.0;

/// Below this, IHAVE and IWANT of a peer are ignored, and it gets no gossip.
const GOSSIP_THRESHOLD: f64 = -100.0;

/// Below this, everything that a peer sends is ignored.
const GRAYLIST_THRESHOLD: f64 = -1000.0;

/// Peers whose penalties are remembered (SECURITY.md 3). The smallest penalty makes room.
const MAX_SCORES: usize = 4096;
fixed_limit!("pubsub: peers whose penalties are remembered", MAX_SCORES);

/// Penalties that are forgotten.
const NEGLIGIBLE: f64 = 0.1;

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Offence {
    /// GRAFT before the back-off of a PRUNE was over.
    EarlyGraft,
    /// The same, right after the PRUNE.
    GraftFlood,
    /// More IHAVE, IWANT or other control than one heartbeat may bring.
    TooMuchControl,
    /// IHAVE for a message that it did not send when it was requested.
    BrokenPromise,
    /// Bytes that are no RPC.
    Malformed,
    /// A message whose signature is wrong.
    InvalidMessage,
}

#[derive(Debug, Clone, Copy)]
struct Score {
    breaches: f64,
    invalid: f64,
    at: Instant,
}

impl Score {
    fn decayed(&self, now: Instant) -> Self {
        let elapsed = now.duration_since(self.at).as_secs_f64();
        let factor = 0.5_f64.powf(elapsed / HALF_LIFE.as_secs_f64());
        Self {
            breaches: self.breaches * factor,
            invalid: self.invalid * factor,
            at: now,
        }
    }

    fn sum(&self) -> f64 {
        self.breaches + self.invalid
    }

    fn value(&self) -> f64 {
        let breaches = (self.breaches - FREE_BREACHES).max(0.0);
        WEIGHT * (breaches.powi(2) + self.invalid.powi(2))
    }
}

/// The scores of all peers that have penalties.
#[derive(Debug, Default)]
pub(super) struct Scores {
    known: HashMap<PeerId, Score>,
}

impl Scores {
    /// Adds a penalty. Returns the new score.
    pub(super) fn penalize(&mut self, peer: PeerId, offence: Offence, now: Instant) -> f64 {
        if self.known.len() >= MAX_SCORES && !self.known.contains_key(&peer) {
            self.make_room(now);
        }
        let fresh = Score {
            breaches: 0.0,
            invalid: 0.0,
            at: now,
        };
        let known = self.known.entry(peer).or_insert(fresh);
        let mut score = known.decayed(now);
        match offence {
            Offence::InvalidMessage => score.invalid += 1.0,
            Offence::GraftFlood => score.breaches += 2.0,
            Offence::EarlyGraft
            | Offence::TooMuchControl
            | Offence::BrokenPromise
            | Offence::Malformed => score.breaches += 1.0,
        }
        *known = score;
        score.value()
    }

    fn make_room(&mut self, now: Instant) {
        self.expire(now);
        if self.known.len() < MAX_SCORES {
            return;
        }
        let smallest = self.known.iter().min_by(|(_, one), (_, other)| {
            let (one, other) = (one.decayed(now).sum(), other.decayed(now).sum());
            one.total_cmp(&other)
        });
        if let Some(peer) = smallest.map(|(peer, _)| *peer) {
            self.known.remove(&peer);
        }
    }

    /// Forgets penalties that have no weight any more.
    pub(super) fn expire(&mut self, now: Instant) {
        self.known
            .retain(|_, score| score.decayed(now).sum() >= NEGLIGIBLE);
    }

    fn value(&self, peer: &PeerId, now: Instant) -> f64 {
        self.known
            .get(peer)
            .map_or(0.0, |score| score.decayed(now).value())
    }

    /// Whether a peer may be in a mesh.
    pub(super) fn may_mesh(&self, peer: &PeerId, now: Instant) -> bool {
        self.value(peer, now) >= 0.0
    }

    /// Whether gossip is exchanged with a peer.
    pub(super) fn may_gossip(&self, peer: &PeerId, now: Instant) -> bool {
        self.value(peer, now) >= GOSSIP_THRESHOLD
    }

    /// Whether everything that a peer sends is ignored.
    pub(super) fn is_graylisted(&self, peer: &PeerId, now: Instant) -> bool {
        self.value(peer, now) < GRAYLIST_THRESHOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_breaches_are_free_and_many_lose_one_place_after_the_other() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        let mut breaches = 0;
        let mut until = |scores: &mut Scores, reached: &dyn Fn(&Scores) -> bool| {
            while !reached(scores) {
                scores.penalize(peer, Offence::TooMuchControl, now);
                breaches += 1;
            }
            breaches
        };
        assert_eq!(
            until(&mut scores, &|scores| !scores.may_mesh(&peer, now)),
            7
        );
        assert_eq!(
            until(&mut scores, &|scores| !scores.may_gossip(&peer, now)),
            10
        );
        assert_eq!(
            until(&mut scores, &|scores| scores.is_graylisted(&peer, now)),
            17
        );
        // It takes minutes until all is forgiven.
        let later = |minutes: u64| now + Duration::from_secs(60 * minutes);
        assert!(scores.is_graylisted(&peer, now));
        assert!(!scores.is_graylisted(&peer, later(2)));
        assert!(!scores.may_mesh(&peer, later(5)) && scores.may_mesh(&peer, later(8)));
        scores.expire(later(30));
        assert_eq!(scores.known.len(), 1);
        scores.expire(later(60));
        assert!(scores.known.is_empty());
    }

    #[test]
    fn one_invalid_message_costs_the_mesh_and_eleven_everything() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        scores.penalize(peer, Offence::InvalidMessage, now);
        assert!(!scores.may_mesh(&peer, now) && scores.may_gossip(&peer, now));
        for _ in 0..9 {
            scores.penalize(peer, Offence::InvalidMessage, now);
        }
        assert!(!scores.is_graylisted(&peer, now));
        scores.penalize(peer, Offence::InvalidMessage, now);
        assert!(scores.is_graylisted(&peer, now));
    }

    #[test]
    fn the_worst_are_remembered_when_there_are_too_many() {
        let (mut scores, worst, now) = (Scores::default(), PeerId::random(), Instant::now());
        for _ in 0..20 {
            scores.penalize(worst, Offence::GraftFlood, now);
        }
        for _ in 0..2 * MAX_SCORES {
            scores.penalize(PeerId::random(), Offence::EarlyGraft, now);
        }
        assert_eq!(scores.known.len(), MAX_SCORES);
        assert!(scores.is_graylisted(&worst, now));
    }
}
