//! Circuits that relays bring.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Puncher,
    message::{self, MAX_MESSAGE, RelayMessageError, Status, StopMessage, stop_message},
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::prefix,
    node::{InboundCircuit, Node, is_relayed, through},
    streams::{InboundStream, Service, UserStream},
    wire::frame,
};

/// Time for a relay to say who calls (go-libp2p's value).
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
fixed_limit!("STOP request of a relay", time MESSAGE_TIMEOUT);

/// Time for a relay to take a refusal.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Circuits that the relays of one IPv4 address or IPv6 /56 may have brought at a time
/// (SECURITY.md 3): by peer id, one host could bring as many as it makes ids. The callers on them
/// are in no other way counted by address.
const MAX_PER_RELAY: usize = 256;
fixed_limit!(
    "inbound circuits from the relays of one address",
    MAX_PER_RELAY
);

/// The part of the places for inbound connections that these may be, where that is less
/// (SECURITY.md 3): each circuit becomes such a connection.
const PLACES_SHARE: usize = 4;

/// Where a relay is, or who it is where its address does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RelayPlace {
    At(IpAddr),
    Unknown(PeerId),
}

/// Circuits brought from each origin.
#[derive(Debug)]
struct Counts {
    table: Mutex<HashMap<RelayPlace, usize>>,
    max: usize,
}

impl Counts {
    /// None yet, on a node with so many places for inbound connections.
    fn new(places: usize) -> Self {
        Self {
            table: Mutex::default(),
            max: (places / PLACES_SHARE).clamp(1, MAX_PER_RELAY),
        }
    }
}

/// Counts one circuit of an origin for as long as it is held.
#[derive(Debug)]
struct Counted {
    counts: Arc<Counts>,
    origin: RelayPlace,
}

impl Counted {
    fn take(counts: &Arc<Counts>, relay: PeerId, remote: &Multiaddr) -> Option<Self> {
        let origin = prefix(remote).map_or(RelayPlace::Unknown(relay), RelayPlace::At);
        let mut table = counts.table.lock();
        let count = table.entry(origin).or_default();
        if *count >= counts.max {
            return None;
        }
        *count += 1;
        Some(Self {
            counts: counts.clone(),
            origin,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.counts.table.lock();
        match table.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(table.remove(&self.origin)),
        }
    }
}

/// Makes connections of the circuits that connected relays bring. None of them needs to have
/// granted a reservation to the daemon: clients reserve by themselves, on streams of their own. The
/// node has so many `places` for inbound connections.
///
/// Once `closing` is cancelled nobody waits for a circuit: it ends with the swarm.
pub(super) fn service(
    node: &Node,
    puncher: Option<Arc<Puncher>>,
    places: usize,
    closing: CancellationToken,
) -> Service {
    let node = node.clone();
    let counts = Arc::new(Counts::new(places));
    Service::lasting(Box::new(move |inbound| {
        let (node, counts, closing) = (node.clone(), counts.clone(), closing.clone());
        let puncher = puncher.clone();
        Box::pin(async move {
            let served = serve(&node, &counts, puncher, inbound);
            closing.run_until_cancelled(served).await;
        })
    }))
}

async fn serve(
    node: &Node,
    counts: &Arc<Counts>,
    puncher: Option<Arc<Puncher>>,
    inbound: InboundStream,
) {
    let (relay, remote) = (inbound.peer, inbound.remote);
    // Nobody has to finish what it begins. Without room the stream is reset.
    let Ok(charge) = inbound.account.charge(MAX_MESSAGE) else {
        return;
    };
    let mut stream = inbound.stream;
    let requested = request(node, relay, is_relayed(&remote), &mut stream).await;
    drop(charge);
    let refused = match requested {
        Ok(caller) => {
            tracing::debug!(%relay, %caller, "a circuit arrives");
            match Counted::take(counts, relay, &remote) {
                Some(_counted) => {
                    let ended = CancellationToken::new();
                    let accepted = node.accept_circuit(InboundCircuit {
                        stream,
                        remote: through(&remote, relay),
                        answer: frame::encode(&message::stop_status(Status::Ok)),
                        ended: ended.clone().drop_guard(),
                    });
                    match accepted {
                        // The stream counts on its connection until the circuit has ended.
                        Ok(()) => {
                            if let Some(puncher) = puncher {
                                // Far larger than the rest, and gone before the circuit is.
                                let called = Box::pin(puncher.called(caller));
                                ended.run_until_cancelled(called).await;
                            }
                            return ended.cancelled().await;
                        }
                        Err(circuit) => stream = circuit.stream,
                    }
                }
                None => Limit::CircuitsOfRelay.hit(),
            }
            Status::ResourceLimitExceeded
        }
        Err(None) => return,
        Err(Some(status)) => status,
    };
    tracing::debug!(%relay, ?refused, "a circuit is refused");
    let answer = async {
        message::write(&mut stream, &message::stop_status(refused)).await?;
        stream.close().await
    };
    // A relay that does not take it knows by the reset.
    let _ = timeout(ANSWER_TIMEOUT, answer).await;
}

/// Who calls. Otherwise the status to answer with, if the relay can still be answered.
async fn request(
    node: &Node,
    relay: PeerId,
    relayed: bool,
    stream: &mut UserStream,
) -> Result<PeerId, Option<Status>> {
    let reading = message::read::<StopMessage>(stream);
    let request = match timeout(MESSAGE_TIMEOUT, reading).await {
        Ok(Ok(request)) => request,
        Ok(Err(RelayMessageError::Length | RelayMessageError::Malformed(_))) => {
            return Err(Some(Status::MalformedMessage));
        }
        Ok(Err(RelayMessageError::Stream(_))) | Err(_) => return Err(None),
    };
    if request.r#type != Some(stop_message::Type::Connect.into()) {
        return Err(Some(Status::UnexpectedMessage));
    }
    let Some(caller) = message::peer_id(request.peer.as_ref()) else {
        return Err(Some(Status::MalformedMessage));
    };
    // A circuit through a circuit, and one from the daemon to itself.
    if relayed || caller == node.peer_id() || caller == relay {
        return Err(Some(Status::PermissionDenied));
    }
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_of_one_address_bring_circuits_together_however_many_ids_they_have() {
        let counts = Arc::new(Counts::new(usize::MAX));
        let take = |remote: &str| {
            let remote = remote.parse().unwrap();
            Counted::take(&counts, PeerId::random(), &remote)
        };
        let mut held: Vec<_> = (0..1000)
            .filter_map(|port| take(&format!("/ip4/1.2.3.4/tcp/{port}")))
            .collect();
        assert_eq!(held.len(), MAX_PER_RELAY);
        held.extend(take("/ip4/1.2.3.5/tcp/1"));
        held.extend(take("/dns4/example.org/tcp/1"));
        assert_eq!(held.len(), MAX_PER_RELAY + 2);
        held.remove(0);
        held.extend(take("/ip4/1.2.3.4/tcp/1"));
        assert_eq!(held.len(), MAX_PER_RELAY + 2);
        drop(held);
        assert!(counts.table.lock().is_empty());
    }

    #[test]
    fn on_a_small_node_they_bring_fewer() {
        for (places, expected) in [(16, 4), (40, 10), (2, 1), (2048, 256)] {
            let counts = Arc::new(Counts::new(places));
            let take = |_| {
                let remote = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
                Counted::take(&counts, PeerId::random(), &remote)
            };
            let held: Vec<_> = (0..1000).filter_map(take).collect();
            assert_eq!(held.len(), expected, "{places}");
        }
    }
}
