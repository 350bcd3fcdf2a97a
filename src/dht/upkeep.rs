//! What keeps the routing table alive between queries.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant as Moment},
};

use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Inner,
    disk::StoredPeer,
    key::Key,
    lookup::Lookup,
    message::{self, Type},
};
use crate::telemetry::Chain;

/// Time between two refreshes of the routing table (go-libp2p-kad-dht's default).
const REFRESH_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Time between two rounds of tidying up.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Time for one lookup of a refresh.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);

/// Buckets refreshed by random walks: the sixteen farthest hold nearly everybody, and finding
/// a key for a nearer one takes ever longer.
const MAX_REFRESHED_BUCKET: usize = 15;

/// Peers known from before a restart that are tried.
const MAX_REJOINED: usize = 256;

/// Time to reach one of them.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Silent peers probed at once.
const MAX_PROBES: usize = 10;

/// When the two periodic jobs of the DHT run.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    sweep: Duration,
    refresh: Duration,
}

impl Schedule {
    /// Calls `sweep` and `refresh` again and again, until dropped. `wanted` brings the next
    /// refresh forward. Neither waits for the other: a refresh takes minutes where peers do not
    /// answer, and entries have to expire meanwhile.
    async fn run<S, R>(
        self,
        wanted: &Notify,
        mut sweep: impl FnMut() -> S,
        mut refresh: impl FnMut() -> R,
    ) where
        S: Future<Output = ()>,
        R: Future<Output = ()>,
    {
        let sweeps = async {
            let mut ticks = interval(self.sweep);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                sweep().await;
            }
        };
        let refreshes = async {
            loop {
                // Either is a reason for a refresh.
                let _ = timeout(self.refresh, wanted.notified()).await;
                refresh().await;
            }
        };
        tokio::join!(sweeps, refreshes);
    }
}

impl Inner {
    /// Joins the network again through peers that were `known` before a restart, and from then
    /// on refreshes the routing table. Expires entries and idle streams meanwhile. Runs until
    /// dropped.
    pub(super) async fn upkeep(self: Arc<Self>, known: Vec<StoredPeer>) {
        let schedule = Schedule {
            sweep: SWEEP_INTERVAL,
            refresh: REFRESH_INTERVAL,
        };
        let mut known = Some(known).filter(|known| !known.is_empty());
        if known.is_some() {
            self.refresh_wanted.notify_one();
        }
        schedule
            .run(
                &self.refresh_wanted,
                || self.sweep(),
                || {
                    let known = known.take().unwrap_or_default();
                    async {
                        self.rejoin(known).await;
                        self.refresh().await;
                    }
                },
            )
            .await;
    }

    async fn sweep(self: &Arc<Self>) {
        self.store.expire();
        self.offer_waiting();
        self.rpc.sweep().await;
    }

    /// Looks up this daemon and a random key for every bucket in use, then probes those that
    /// have not answered since the last refresh.
    async fn refresh(self: &Arc<Self>) {
        let begun = Moment::now();
        for (peer, _) in self.node.streams().peers.list() {
            self.admit_if_serving(&peer);
        }
        let deepest = self.table().by_bucket().last().map(|(bits, _)| bits);
        let Some(deepest) = deepest else { return };
        self.walk(&self.node.peer_id().to_bytes()).await;
        for bits in 0..=deepest.min(MAX_REFRESHED_BUCKET) {
            self.walk(&self.random_key(bits)).await;
        }
        let silent = begun
            .checked_sub(REFRESH_INTERVAL)
            .map(|since| self.table().silent(since))
            .unwrap_or_default();
        futures::stream::iter(silent)
            .for_each_concurrent(MAX_PROBES, |peer| self.is_alive(peer).map(drop))
            .await;
        let peers = self.table().verified();
        for peer in &peers {
            self.store
                .remember_peer(peer, &self.known_info(*peer).addresses);
        }
        tracing::debug!(peers = peers.len(), "DHT table refreshed");
    }

    /// Connects to peers known from before a restart, which identify then admits.
    async fn rejoin(&self, known: Vec<StoredPeer>) {
        let known = known.into_iter().take(MAX_REJOINED);
        futures::stream::iter(known)
            .for_each_concurrent(MAX_PROBES, |known| async move {
                let StoredPeer {
                    peer, addresses, ..
                } = known;
                let deadline = Instant::now() + REJOIN_TIMEOUT;
                let dialed = self.node.connect_known(peer, addresses, deadline);
                if let Err(error) = dialed.await {
                    // It stays on disk: perhaps it is this node that is cut off.
                    let error = Chain(&error);
                    tracing::debug!(%peer, %error, "known DHT peer not reached");
                }
            })
            .await;
    }

    async fn walk(self: &Arc<Self>, key: &[u8]) {
        let request = message::request(Type::FindNode, key);
        let deadline = Instant::now() + REFRESH_TIMEOUT;
        let Ok(mut lookup) = Lookup::start(self, key, &request, deadline) else {
            return;
        };
        let walk = async { while lookup.next().await.is_some() {} };
        let _ = tokio::time::timeout_at(deadline, walk).await;
    }

    /// A key that shares exactly `bits` leading bits with this daemon's.
    fn random_key(&self, bits: usize) -> [u8; 32] {
        let own = Key::of(&self.node.peer_id().to_bytes());
        loop {
            let key: [u8; 32] = rand::random();
            if Key::of(&key).distance(&own).common_prefix_len() == bits {
                return key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use super::*;

    /// More than the test may need on a loaded machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_refresh_that_hangs_does_not_delay_expiry() {
        let schedule = Schedule {
            sweep: Duration::from_millis(1),
            refresh: Duration::from_millis(1),
        };
        let (wanted, refreshes, sweeps) = (Notify::new(), Cell::new(0), Cell::new(0));
        let (enough, seen) = (Notify::new(), Cell::new(0));
        let run = schedule.run(
            &wanted,
            || {
                sweeps.set(sweeps.get() + 1);
                // Ten more since the refresh began to hang.
                if refreshes.get() == 1 && sweeps.get() >= seen.get() + 10 {
                    enough.notify_one();
                }
                std::future::ready(())
            },
            || {
                refreshes.set(refreshes.get() + 1);
                seen.set(sweeps.get());
                pending::<()>()
            },
        );
        let done = async {
            tokio::select! {
                () = run => {}
                () = enough.notified() => {}
            }
        };
        let done = timeout(PATIENCE, done).await;
        assert_eq!(refreshes.get(), 1, "no refresh hangs");
        assert!(done.is_ok(), "{} sweeps, then none", sweeps.get());
    }

    #[tokio::test]
    async fn a_refresh_comes_early_when_it_is_wanted() {
        let schedule = Schedule {
            sweep: PATIENCE,
            refresh: 2 * PATIENCE,
        };
        let (wanted, done) = (Notify::new(), Notify::new());
        wanted.notify_one();
        let run = schedule.run(
            &wanted,
            || std::future::ready(()),
            || {
                done.notify_one();
                std::future::ready(())
            },
        );
        let early = async {
            tokio::select! {
                () = run => {}
                () = done.notified() => {}
            }
        };
        assert!(timeout(PATIENCE, early).await.is_ok());
    }
}
