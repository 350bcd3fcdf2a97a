//! Being reachable through relays.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use libp2p::PeerId;
use tokio::time::timeout;

use super::stop::Stop;
use crate::{
    config::{Config, Reachability},
    dht::{Dht, QueryError},
    node::Node,
    relay::{AutoRelay, Walk},
};

/// How long the banner waits for the first place at a relay. Hivemind gives its daemon 15 s to
/// start.
const FIRST_PLACE: Duration = Duration::from_secs(3);

/// Holds places at relays, if that is wanted, until the daemon stops serving.
pub(super) fn start(
    config: &Config,
    node: &Node,
    dht: Option<&Dht>,
    stop: &Stop,
) -> Option<AutoRelay> {
    let wanted = &config.relay;
    if !wanted.auto {
        return None;
    }
    let dht = dht.filter(|_| wanted.discovery);
    let walk = dht.map(|dht| towards(node.peer_id(), dht.clone()));
    let (autorelay, run) = AutoRelay::new(node, &wanted.trusted, walk);
    stop.spawn_task(run);
    Some(autorelay)
}

/// Walks towards `own` in `dht`.
fn towards(own: PeerId, dht: Dht) -> Walk {
    Arc::new(move |deadline| {
        let dht = dht.clone();
        async move {
            match dht.closest_peers(&own.to_bytes(), deadline).await {
                Ok(peers) => Some(peers),
                Err(QueryError::EmptyTable) => None,
                Err(_) => Some(Vec::new()),
            }
        }
        .boxed()
    })
}

/// Waits until a node of which it is known from the start that nobody can dial it has asked its
/// trusted relays: clients ask for its addresses once, right after the start.
pub(super) async fn first_place(config: &Config, autorelay: Option<&AutoRelay>) {
    let private = config.nat.reachability == Some(Reachability::Private);
    if let Some(autorelay) = autorelay
        && private
        && !config.relay.trusted.is_empty()
        && timeout(FIRST_PLACE, autorelay.settled()).await.is_err()
    {
        tracing::info!("no trusted relay has answered yet");
    }
}
