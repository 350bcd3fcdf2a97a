//! Messages that peers have offered with IHAVE and owe since IWANT requested them
//! (go-libp2p-pubsub's gossip promises).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::super::seen::IdHash;

use crate::fixed_limits::fixed_limit;

/// Time to send a message that was requested. Go's 3 s are too short for a slow network.
const FOLLOW_UP_TIME: Duration = Duration::from_secs(10);

/// Promises remembered (SECURITY.md 3). Further ones are not followed up.
const MAX_PROMISES: usize = 8192;
fixed_limit!(
    "pubsub: requested messages that are waited for",
    MAX_PROMISES
);

/// See the module. Of each IHAVE one id is followed up, chosen at random.
#[derive(Debug, Default)]
pub(super) struct Promises {
    open: HashMap<IdHash, (PeerId, Instant)>,
}

impl Promises {
    /// `peer` is to send the message `id`. The first promise of a message counts.
    pub(super) fn add(&mut self, id: IdHash, peer: PeerId, now: Instant) {
        if self.open.len() < MAX_PROMISES {
            self.open.entry(id).or_insert((peer, now + FOLLOW_UP_TIME));
        }
    }

    /// The message has come, from whomever.
    pub(super) fn fulfil(&mut self, id: IdHash) {
        self.open.remove(&id);
    }

    /// Forgets all of them: this node has left a topic, and no longer accepts its messages.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// Removes what is overdue. Returns who owes it.
    pub(super) fn broken(&mut self, now: Instant) -> Vec<PeerId> {
        let overdue = self.open.extract_if(|_, (_, until)| *until < now);
        overdue.map(|(_, (peer, _))| peer).collect()
    }
}
