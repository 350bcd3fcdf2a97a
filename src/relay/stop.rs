//! Circuits that relays bring.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::AsyncWriteExt as _;
use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::{self, MessageError, Status, StopMessage, stop_message};
use crate::{
    limit_hits::Limit,
    node::{InboundCircuit, Node, is_relayed, through},
    streams::{InboundStream, Service, UserStream},
    wire::frame,
};

/// Time for a relay to say who calls (go-libp2p's value).
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for a relay to take a refusal.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Circuits that one relay may have brought at a time (SECURITY.md 3).
const MAX_PER_RELAY: usize = 256;

/// Circuits brought by each relay.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<PeerId, usize>>);

/// Counts one circuit of a relay for as long as it is held.
#[derive(Debug)]
struct Counted {
    counts: Arc<Counts>,
    relay: PeerId,
}

impl Counted {
    fn take(counts: &Arc<Counts>, relay: PeerId) -> Option<Self> {
        let mut table = counts.0.lock();
        let count = table.entry(relay).or_default();
        if *count >= MAX_PER_RELAY {
            return None;
        }
        *count += 1;
        Some(Self {
            counts: counts.clone(),
            relay,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.counts.0.lock();
        match table.get_mut(&self.relay) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(table.remove(&self.relay)),
        }
    }
}

/// Makes connections of the circuits that connected relays bring. None of them needs to have
/// granted a reservation to the daemon: clients reserve by themselves, on streams of their own.
///
/// Once `closing` is cancelled nobody waits for a circuit: it ends with the swarm.
pub(super) fn service(node: &Node, closing: CancellationToken) -> Service {
    let node = node.clone();
    let counts = Arc::new(Counts::default());
    Service::lasting(Box::new(move |inbound| {
        let (node, counts, closing) = (node.clone(), counts.clone(), closing.clone());
        Box::pin(async move {
            let served = serve(&node, &counts, inbound);
            closing.run_until_cancelled(served).await;
        })
    }))
}

async fn serve(node: &Node, counts: &Arc<Counts>, inbound: InboundStream) {
    let (relay, remote) = (inbound.peer, inbound.remote);
    let mut stream = inbound.stream;
    let refused = match request(node, relay, is_relayed(&remote), &mut stream).await {
        Ok(caller) => {
            tracing::debug!(%relay, %caller, "a circuit arrives");
            match Counted::take(counts, relay) {
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
                        Ok(()) => return ended.cancelled().await,
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
        Ok(Err(MessageError::Length | MessageError::Malformed(_))) => {
            return Err(Some(Status::MalformedMessage));
        }
        Ok(Err(MessageError::Stream(_))) | Err(_) => return Err(None),
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
