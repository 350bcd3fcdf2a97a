//! Joining a network through peers that the operator names (COMPATIBILITY.md 1.8).

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::{Rng as _, seq::SliceRandom as _};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

use super::{Cause, DialError, Node, dial::NO_ANSWER};
use crate::{fixed_limits::fixed_limit, telemetry::Chain};

/// The tag of bootstrap peers, of weight 1 (go-libp2p-daemon's).
const TAG: &str = "bootstrap";

/// Bootstrap peers to be connected to (go-libp2p-daemon's number).
const WANTED: usize = 4;

/// Bootstrap peers dialed at once at the start: as many as there may be raw dials, so that a
/// hundred that are silent do not hold up the one that answers.
const MAX_START_DIALS: usize = 256;
fixed_limit!(
    "dials to bootstrap peers under way, at the start",
    MAX_START_DIALS
);

/// The same later on.
const MAX_DIALS: usize = 64;
fixed_limit!("dials to bootstrap peers under way", MAX_DIALS);

/// Time for the first connection, whatever the peers do. Hivemind gives its daemon 15 s to start.
const START_TIMEOUT: Duration = Duration::from_secs(8);

/// Pause before a peer is tried again at start. It doubles up to [`MAX_START_PAUSE`].
const START_PAUSE: Duration = Duration::from_millis(250);

/// See [`START_PAUSE`].
const MAX_START_PAUSE: Duration = Duration::from_secs(2);

/// Time for a later pass over all peers (go-libp2p-daemon's).
const PASS_TIMEOUT: Duration = Duration::from_secs(60);

/// Time between looks at whether there are enough connections (go-libp2p-daemon's).
const CHECK_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Pause before a node without peers dials again. It doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);

/// See [`PAUSE`].
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Peers other than those of the list that a node without peers dials.
const MAX_RECENT: usize = 16;

/// Peers whose reasons the error names.
const MAX_REASONS: usize = 8;

/// No bootstrap peer was reached.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect to bootstrap peers")]
pub struct BootstrapError {
    /// Why, one per peer: the first eight.
    pub failures: Vec<(PeerId, DialError)>,
    /// How many more there are.
    pub others: usize,
}

impl BootstrapError {
    /// Whether a peer was not reached because no name server answers.
    #[must_use]
    pub fn is_without_dns(&self) -> bool {
        self.failures.iter().any(|(_, failure)| match failure {
            DialError::AllFailed(_, causes) => causes
                .iter()
                .any(|(_, cause)| matches!(cause, Cause::Name(text) if text.contains(NO_ANSWER))),
            _ => false,
        })
    }
}

/// The peers of a network that are dialed first.
#[derive(Debug, Clone)]
pub struct BootstrapPeers(Vec<(PeerId, Vec<Multiaddr>)>);

impl BootstrapPeers {
    /// Peers by their addresses, each ending in `/p2p/<id>`. Others are left out, and so is this
    /// node itself: replicas share one list.
    #[must_use]
    pub fn new(addresses: &[Multiaddr], own: PeerId) -> Self {
        let mut peers: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
        for address in addresses {
            let Some(Protocol::P2p(id)) = address.iter().last() else {
                continue;
            };
            if id == own {
                continue;
            }
            match peers.iter_mut().find(|(peer, _)| *peer == id) {
                Some((_, known)) => known.push(address.clone()),
                None => peers.push((id, vec![address.clone()])),
            }
        }
        Self(peers)
    }

    /// Whether there is nobody to dial.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shuffled(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut peers = self.0.clone();
        peers.shuffle(&mut rand::rng());
        peers
    }

    /// Connects to the first that answers. Peers that are down are tried again until the time for
    /// the start is over.
    ///
    /// # Errors
    /// Why the peers were not reached.
    pub async fn join(&self, node: &Node) -> Result<(), BootstrapError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let places = Arc::new(Semaphore::new(MAX_START_DIALS));
        let mut dials = FuturesUnordered::new();
        let mut failures = HashMap::new();
        let again = |peer, addresses: Vec<Multiaddr>, pause: Duration| {
            let (node, places) = (node.clone(), places.clone());
            async move {
                sleep(pause).await;
                let _place = places.acquire().await;
                let result = connect(&node, peer, addresses.clone(), deadline).await;
                (peer, addresses, pause, result)
            }
        };
        for (peer, addresses) in self.shuffled() {
            dials.push(again(peer, addresses, Duration::ZERO));
        }
        let joined = async {
            while let Some((peer, addresses, pause, result)) = dials.next().await {
                let error = match result {
                    Ok(()) => return true,
                    Err(error) => error,
                };
                let pause = (2 * pause).clamp(START_PAUSE, MAX_START_PAUSE);
                if may_pass(&error) && Instant::now() + pause < deadline {
                    dials.push(again(peer, addresses, pause));
                }
                // A reason says more than that the time was over.
                if error != DialError::DeadlineExceeded || !failures.contains_key(&peer) {
                    failures.insert(peer, error);
                }
            }
            false
        };
        if timeout_at(deadline, joined).await.unwrap_or(false) {
            return Ok(());
        }
        let reasons = self.0.iter().take(MAX_REASONS).map(|(peer, _)| {
            let reason = failures.remove(peer);
            (*peer, reason.unwrap_or(DialError::DeadlineExceeded))
        });
        Err(BootstrapError {
            failures: reasons.collect(),
            others: self.0.len().saturating_sub(MAX_REASONS),
        })
    }

    /// After [`BootstrapPeers::join`]: connects to the others, looks after the number of
    /// connections, and dials again when the node is left without peers. Calls `rejoined` when it
    /// has some again. Runs until dropped.
    pub async fn keep(self, node: Node, rejoined: impl Fn() + Send) {
        self.dial(&node, self.shuffled(), WANTED).await;
        loop {
            tokio::select! {
                () = isolated(&node) => {
                    self.rejoin(&node).await;
                    rejoined();
                }
                () = sleep(CHECK_INTERVAL) => {
                    self.dial(&node, self.shuffled(), WANTED).await;
                }
            }
        }
    }

    /// Dials this list and those that were connected last, at growing intervals, until the node
    /// has peers again.
    async fn rejoin(&self, node: &Node) {
        let mut pause = PAUSE;
        while node.is_isolated() {
            // All that have lost the same peer must not come back in the same moment.
            let part = rand::rng().random_range(0.9..1.0);
            sleep(pause.mul_f64(part)).await;
            pause = (2 * pause).min(MAX_PAUSE);
            if !node.is_isolated() {
                return;
            }
            let mut peers = self.shuffled();
            let recent = node.recently_connected(MAX_RECENT).into_iter();
            peers.extend(recent.map(|peer| (peer, Vec::new())));
            tracing::info!(
                peers = peers.len(),
                "no peers: dialing bootstrap peers again"
            );
            self.dial(node, peers, 1).await;
        }
    }

    /// Dials `peers` until there are `wanted` connections, all of them have been tried, or the
    /// time for a pass is over.
    async fn dial(&self, node: &Node, peers: Vec<(PeerId, Vec<Multiaddr>)>, wanted: usize) {
        let enough = || node.streams().peers.list().len() >= wanted;
        if enough() {
            return;
        }
        let deadline = Instant::now() + PASS_TIMEOUT;
        let mut attempts = futures::stream::iter(peers)
            .map(|(peer, addresses)| {
                connect(node, peer, addresses, deadline).map(move |result| (peer, result))
            })
            .buffer_unordered(MAX_DIALS);
        while let Some((peer, result)) = attempts.next().await {
            match result {
                Ok(()) if enough() => return,
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%peer, error = %Chain(&error), "bootstrap peer not reached")
                }
            }
        }
    }
}

/// Whether a later dial may end otherwise.
fn may_pass(error: &DialError) -> bool {
    match error {
        DialError::ToSelf => false,
        DialError::AllFailed(_, causes) => causes
            .iter()
            .any(|(_, cause)| !matches!(cause, Cause::PeerIdMismatch(_) | Cause::NoTransport)),
        _ => true,
    }
}

async fn connect(
    node: &Node,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    deadline: Instant,
) -> Result<(), DialError> {
    // The operator's addresses are dialed as given, on whatever port.
    node.connect_known(peer, addresses, deadline).await?;
    // Without room for tags the connection is worth no more than others.
    let _ = node.tag(peer, TAG, 1);
    Ok(())
}

/// Waits until the node has no peers.
async fn isolated(node: &Node) {
    let peers = &node.streams().peers;
    loop {
        let changed = peers.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if node.is_isolated() {
            return;
        }
        // A table may empty itself while connections stay.
        let _ = tokio::time::timeout(MAX_PAUSE, changed).await;
    }
}
