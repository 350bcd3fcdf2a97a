//! Autorelay: while strangers cannot dial this node, relays hold places for it, so that it can be
//! reached through them.
//!
//! Trusted relays are asked at once, found ones when there is a choice of four, or five seconds
//! after the first. The rest is go-libp2p's (COMPATIBILITY.md 4.32). A relay that is lost is asked
//! again within seconds, where go-libp2p waits an hour.

mod addresses;
mod discovery;
mod finder;
mod relays;
mod reserve;
mod snapshot;

use std::sync::Arc;

use futures::FutureExt as _;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::{Notify, watch};

pub use discovery::Walk;
pub use reserve::Allowance;
pub use snapshot::{Counts, Reservation, Snapshot, State};

use crate::node::Node;
use discovery::{Came, discover};
use finder::{Finder, Parts};

/// A handle to autorelay, cheap to clone.
#[derive(Debug, Clone)]
pub struct AutoRelay(watch::Receiver<Snapshot>);

impl AutoRelay {
    /// Holds places at the `trusted` relays, addresses that end in `/p2p/<id>`, and with a `walk`
    /// at such as it finds. Runs for as long as the future that it returns.
    pub fn new(
        node: &Node,
        trusted: &[Multiaddr],
        walk: Option<Walk>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static + use<>) {
        let (told, state) = watch::channel(Snapshot::default());
        let came = Arc::<Came>::default();
        came.watch(&node.streams().peers);
        let wanted = Arc::<Notify>::default();
        let finder = Finder::new(Parts {
            node: node.clone(),
            trusted: by_peer(trusted, node.peer_id()),
            discovery: walk.is_some(),
            came: came.clone(),
            wanted: wanted.clone(),
            told,
        });
        let node = node.clone();
        let run = async move {
            let discovered = match walk {
                Some(walk) => discover(node, walk, wanted, came).boxed(),
                None => std::future::pending().boxed(),
            };
            tokio::join!(finder.run(), discovered);
        };
        (Self(state), run)
    }

    /// Autorelay at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }

    /// Waits until one relay holds a place, or every trusted one was asked.
    pub async fn settled(&self) {
        // An error means that the daemon ends.
        let _ = self.0.clone().wait_for(|now| now.settled).await;
    }
}

/// `addresses` by the peer that each ends with, without that end. The node itself is left out:
/// replicas share one list.
fn by_peer(addresses: &[Multiaddr], own: PeerId) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let mut peers: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for address in addresses {
        let mut address = address.clone();
        let Some(Protocol::P2p(id)) = address.pop() else {
            continue;
        };
        if id == own {
            continue;
        }
        let known = peers.iter().position(|(peer, _)| *peer == id);
        match known.and_then(|known| peers.get_mut(known)) {
            Some((_, known)) => known.push(address),
            None => peers.push((id, vec![address])),
        }
    }
    peers
        .iter_mut()
        .for_each(|(_, addresses)| addresses.retain(|address| !address.is_empty()));
    peers
}
