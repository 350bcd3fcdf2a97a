//! Turns of peers to be answered.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::fixed_limits::fixed_limit;

/// Requests of one peer answered at once (SECURITY.md 3). Thousands of streams that all have a
/// request would otherwise be thousands of tasks that are ready to run, and everybody else's
/// tasks would wait behind them.
const MAX_ANSWERING: usize = 1;
fixed_limit!("DHT: requests of one peer answered at once", MAX_ANSWERING);

/// Requests of one peer that wait for the verdict of a client at once (SECURITY.md 3). They do not hold
/// up its other requests.
pub(crate) const MAX_VALIDATED: usize = 4;
fixed_limit!(
    "DHT: requests of one peer that wait for a client",
    MAX_VALIDATED
);

/// The turns of one peer.
#[derive(Debug)]
struct Places {
    answering: Semaphore,
    validated: Semaphore,
}

/// The peers that have streams open.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<PeerId, Weak<Places>>>>);

/// One stream's share in the turns of its peer.
#[derive(Debug)]
pub(super) struct Turn {
    peer: PeerId,
    places: Arc<Places>,
    turns: Arc<Mutex<HashMap<PeerId, Weak<Places>>>>,
}

impl Turns {
    pub(super) fn of(&self, peer: PeerId) -> Turn {
        let mut peers = self.0.lock();
        let known = peers.get(&peer).and_then(Weak::upgrade);
        let places = known.unwrap_or_else(|| {
            let places = Arc::new(Places {
                answering: Semaphore::new(MAX_ANSWERING),
                validated: Semaphore::new(MAX_VALIDATED),
            });
            peers.insert(peer, Arc::downgrade(&places));
            places
        });
        Turn {
            peer,
            places,
            turns: self.0.clone(),
        }
    }
}

impl Turn {
    /// Waits until a request of the peer may be answered, or may be validated by a client first. The
    /// turn lasts until the permit is dropped; `None` never comes.
    pub(super) async fn wait(&self, validated: bool) -> Option<SemaphorePermit<'_>> {
        let places = match validated {
            true => &self.places.validated,
            false => &self.places.answering,
        };
        places.acquire().await.ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut peers = self.turns.lock();
        // Others are taken under this lock, so the count cannot grow meanwhile.
        if Arc::strong_count(&self.places) == 1 {
            peers.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn peers_have_turns_of_their_own_and_are_forgotten() {
        let turns = Turns::default();
        let (peer, other) = (PeerId::random(), PeerId::random());
        let streams: Vec<Turn> = (0..2).map(|_| turns.of(peer)).collect();
        let first = streams[0].wait(false).now_or_never().flatten();
        assert!(first.is_some());
        assert!(streams[1].wait(false).now_or_never().is_none());
        let another = turns.of(other);
        assert!(another.wait(false).now_or_never().flatten().is_some());
        assert!(streams[1].wait(true).now_or_never().flatten().is_some());
        drop(first);
        assert!(streams[1].wait(false).now_or_never().flatten().is_some());
        assert_eq!(turns.0.lock().len(), 2);
        drop(streams);
        drop(another);
        assert!(turns.0.lock().is_empty());
    }
}
