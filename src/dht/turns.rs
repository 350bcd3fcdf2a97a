//! Turns of peers to be answered.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests of one peer answered at once (SECURITY.md 3). Thousands of streams that all have a
/// request would otherwise be thousands of tasks that are ready to run, and everybody else's
/// tasks would wait behind them.
const MAX_ANSWERING: usize = 1;

/// The peers that have streams open.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<PeerId, Weak<Semaphore>>>>);

/// One stream's share in the turns of its peer.
#[derive(Debug)]
pub(super) struct Turn {
    peer: PeerId,
    semaphore: Arc<Semaphore>,
    turns: Arc<Mutex<HashMap<PeerId, Weak<Semaphore>>>>,
}

impl Turns {
    pub(super) fn of(&self, peer: PeerId) -> Turn {
        let mut peers = self.0.lock();
        let known = peers.get(&peer).and_then(Weak::upgrade);
        let semaphore = known.unwrap_or_else(|| {
            let semaphore = Arc::new(Semaphore::new(MAX_ANSWERING));
            peers.insert(peer, Arc::downgrade(&semaphore));
            semaphore
        });
        Turn {
            peer,
            semaphore,
            turns: self.0.clone(),
        }
    }
}

impl Turn {
    /// Waits until a request of the peer may be answered. The turn lasts until the permit is
    /// dropped; `None` never comes.
    pub(super) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.semaphore.acquire().await.ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut peers = self.turns.lock();
        // Others are taken under this lock, so the count cannot grow meanwhile.
        if Arc::strong_count(&self.semaphore) == 1 {
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
        let first = streams[0].wait().now_or_never().flatten();
        assert!(first.is_some());
        assert!(streams[1].wait().now_or_never().is_none());
        let another = turns.of(other);
        assert!(another.wait().now_or_never().flatten().is_some());
        drop(first);
        assert!(streams[1].wait().now_or_never().flatten().is_some());
        assert_eq!(turns.0.lock().len(), 2);
        drop(streams);
        drop(another);
        assert!(turns.0.lock().is_empty());
    }
}
