//! Looks for relays: walks towards this node's own id in the DHT, and connects to what it finds.
//!
//! Whoever is found there is also whom this node's friends find. Hivemind's nodes without listeners
//! rely on being connected to others in this way, whatever is known of their reach.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    fixed_limits::fixed_limit, node::Node, relay::message::HOP, streams::Peers, telemetry::Chain,
};

/// Asks the DHT for the peers closest to this node until the deadline, and connects to those it
/// asks. None if there is nobody to ask.
pub type Walk = Arc<dyn Fn(Instant) -> BoxFuture<'static, Option<Vec<PeerId>>> + Send + Sync>;

/// Time for one walk.
const WALK_TIMEOUT: Duration = Duration::from_secs(60);

/// Time to connect to a peer that was found.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials to peers that were found under way.
const MAX_DIALS: usize = 4;

/// Between the first two walks, and the next two. Then it doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(5);

/// Between walks at most (go-libp2p's value).
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Between somebody's coming and the next look at an empty table, which takes newcomers in after a
/// check.
const NEWCOMER: Duration = Duration::from_secs(1);

/// Peers that have come and were not looked at yet (SECURITY.md 3); of more the oldest are left to
/// the next scan.
const MAX_CAME: usize = 64;
fixed_limit!(
    "autorelay: peers that relay and were not looked at",
    MAX_CAME
);

/// Peers of which identify tells that they relay.
#[derive(Debug, Default)]
pub(super) struct Came {
    peers: Mutex<VecDeque<PeerId>>,
    notify: Notify,
}

impl Came {
    /// Is told of those that connect to this node.
    pub(super) fn watch(self: &Arc<Self>, peers: &Peers) {
        let came = self.clone();
        peers.observe(Box::new(move |peer, protocols| {
            if protocols.iter().any(|name| name == HOP) {
                came.add(peer);
            }
        }));
    }

    fn add(&self, peer: PeerId) {
        let mut peers = self.peers.lock();
        if peers.contains(&peer) {
            return;
        }
        if peers.len() == MAX_CAME {
            peers.pop_front();
        }
        peers.push_back(peer);
        drop(peers);
        self.notify.notify_one();
    }

    /// Waits for somebody.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take(&self) -> VecDeque<PeerId> {
        std::mem::take(&mut *self.peers.lock())
    }
}

/// Walks at growing intervals, from the beginning whenever it is `wanted`, until dropped.
pub(super) async fn discover(node: Node, walk: Walk, wanted: Arc<Notify>, came: Arc<Came>) {
    let mut pauses = pauses();
    loop {
        let changed = node.streams().peers.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let Some(found) = walk(Instant::now() + WALK_TIMEOUT).await else {
            changed.await;
            sleep(NEWCOMER).await;
            continue;
        };
        tracing::debug!(peers = found.len(), "looked for relays");
        stream::iter(found)
            .map(|peer| reach(&node, peer).map(move |()| peer))
            .buffer_unordered(MAX_DIALS)
            .for_each(|peer| {
                came.add(peer);
                futures::future::ready(())
            })
            .await;
        let pause = pauses.next().unwrap_or(MAX_PAUSE);
        let pause = pause.mul_f64(rand::random_range(0.8..1.2));
        if timeout(pause, wanted.notified()).await.is_ok() {
            pauses = self::pauses();
        }
    }
}

/// 5 s, 5 s, 10 s, 20 s .. 1 h.
fn pauses() -> impl Iterator<Item = Duration> + Send {
    let doubling = (0_u32..).map(|step| PAUSE.saturating_mul(1 << step.min(16)).min(MAX_PAUSE));
    std::iter::once(PAUSE).chain(doubling)
}

async fn reach(node: &Node, peer: PeerId) {
    if node.is_connected(&peer) {
        return;
    }
    let deadline = Instant::now() + DIAL_TIMEOUT;
    if let Err(error) = node.connect_directly(peer, Vec::new(), deadline).await {
        tracing::debug!(%peer, error = %Chain(&error), "a peer near this node was not reached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_become_rare() {
        let seconds: Vec<u64> = pauses().take(12).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds[..5], [5, 5, 10, 20, 40]);
        assert_eq!(seconds[10..], [2560, 3600]);
    }

    #[test]
    fn newcomers_are_bounded_and_come_once() {
        let came = Came::default();
        let first = PeerId::random();
        came.add(first);
        came.add(first);
        assert_eq!(came.take(), [first]);
        for _ in 0..1000 {
            came.add(PeerId::random());
        }
        assert_eq!(came.take().len(), MAX_CAME);
    }
}
