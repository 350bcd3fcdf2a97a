//! Joining a network through peers that the operator names (COMPATIBILITY.md 1.8).

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::seq::SliceRandom as _;
use tokio::time::{Instant, interval};

use super::{DialError, Node};

/// The tag of bootstrap peers, of weight 1 (go-libp2p-daemon's).
const TAG: &str = "bootstrap";

/// Bootstrap peers to be connected to (go-libp2p-daemon's number).
const WANTED: usize = 4;

/// Dials to bootstrap peers under way.
const MAX_DIALS: usize = 16;

/// Time for all of them together (go-libp2p-daemon's).
const TIMEOUT: Duration = Duration::from_secs(60);

/// Time between looks at whether there are enough connections (go-libp2p-daemon's).
const CHECK_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// A bootstrap peer, and how dialing it went.
type Attempt = (PeerId, Result<(), DialError>);

/// The peers of a network that are dialed first.
#[derive(Debug, Clone)]
pub struct BootstrapPeers(Vec<(PeerId, Vec<Multiaddr>)>);

impl BootstrapPeers {
    /// Peers by their addresses, each ending in `/p2p/<id>`; others are left out.
    #[must_use]
    pub fn new(addresses: &[Multiaddr]) -> Self {
        let mut peers: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
        for address in addresses {
            let Some(Protocol::P2p(id)) = address.iter().last() else {
                continue;
            };
            match peers.iter_mut().find(|(peer, _)| *peer == id) {
                Some((_, known)) => known.push(address.clone()),
                None => peers.push((id, vec![address.clone()])),
            }
        }
        Self(peers)
    }

    /// Dials all of them, some at a time and in random order, for a minute at most. A peer
    /// that is connected already counts as reached.
    fn dial(&self, node: &Node) -> impl Stream<Item = Attempt> + use<> {
        let mut peers = self.0.clone();
        peers.shuffle(&mut rand::rng());
        let deadline = Instant::now() + TIMEOUT;
        let node = node.clone();
        stream::iter(peers)
            .map(move |(peer, addresses)| {
                let node = node.clone();
                async move {
                    let addresses = addresses
                        .into_iter()
                        .filter_map(|address| super::own_address(address, peer))
                        .collect();
                    let dialed = node.connect_directly(peer, addresses, deadline).await;
                    if dialed.is_ok() {
                        // Without room for tags the connection is worth no more than others.
                        let _ = node.tag(peer, TAG, 1);
                    }
                    (peer, dialed)
                }
            })
            .buffer_unordered(MAX_DIALS)
    }

    /// Connects to the first that answers; returns a task that connects to the others.
    ///
    /// # Errors
    /// Why each of the peers was not reached.
    pub async fn join(
        self,
        node: &Node,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Vec<DialError>> {
        let mut failures = Vec::new();
        let mut attempts = Box::pin(self.dial(node));
        loop {
            match attempts.next().await {
                Some((_, Ok(()))) => break,
                Some((_, Err(error))) => failures.push(error),
                None => return Err(failures),
            }
        }
        let node = node.clone();
        Ok(async move {
            let mut wanted = WANTED - 1;
            let mut checks = interval(CHECK_INTERVAL);
            // The first tick is now.
            checks.tick().await;
            loop {
                while wanted > 0
                    && let Some((peer, dialed)) = attempts.next().await
                {
                    match dialed {
                        Ok(()) => wanted -= 1,
                        Err(error) => tracing::debug!(%peer, ?error, "bootstrap peer not reached"),
                    }
                }
                checks.tick().await;
                wanted = WANTED.saturating_sub(node.streams().peers.list().len());
                attempts = Box::pin(self.dial(&node));
            }
        })
    }
}
