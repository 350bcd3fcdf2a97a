//! Circuits: from a peer that asks for one to a peer that has reserved.

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;
use tokio::time::{Instant, timeout};

use super::{ANSWER_TIMEOUT, Inner};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Account, Charge},
    muxer::Connection,
    relay::{
        circuits::Entry,
        message::{self, STOP, Status, StopMessage, stop_message},
        pipe::{CircuitLimits, CircuitPipe, Leg},
    },
    streams::{InboundStream, Peer, StreamUser, UserStream},
};

/// Marks the connections of the ends of circuits, and what that is worth (go-libp2p's value).
const TAG: &str = "relay-hop-stream";
const WORTH: i64 = 5;

/// Time for a stream to the destination (go-libp2p's value).
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
fixed_limit!("relay: stream to the destination", time OPEN_TIMEOUT);

/// Time for the destination to agree (go-libp2p's value).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
fixed_limit!("relay: answer of the destination", time HANDSHAKE_TIMEOUT);

/// Memory that a circuit needs, besides payload, in bytes: its task, its two streams.
const CIRCUIT_COST: usize = 8 << 10;
fixed_limit!("relay: memory charged for a circuit", bytes CIRCUIT_COST);

/// A circuit that both ends know of.
#[derive(Debug)]
pub(super) struct Circuit {
    destination: Leg,
    destinations: Arc<Account>,
    limits: CircuitLimits,
    entry: Entry,
    counted: Counted,
    _charge: Charge,
}

impl Circuit {
    /// Passes bytes on until the circuit ends. Those that `source` sends are charged to `sources`.
    pub(super) async fn run(self, source: Leg, sources: &Arc<Account>) {
        let pipe = CircuitPipe::new(
            (source, sources),
            (self.destination, &self.destinations),
            &self.limits,
            self.entry.meter.clone(),
        );
        let ended = pipe.await;
        let (source, destination) = (self.counted.source, self.counted.destination);
        tracing::debug!(%source, %destination, ?ended, "a circuit has ended");
    }
}

/// Counts a circuit of both ends for as long as it is held.
#[derive(Debug)]
struct Counted {
    relay: Arc<Inner>,
    source: PeerId,
    destination: PeerId,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut reservations = self.relay.reservations.lock();
        let mut without = Vec::new();
        for peer in [self.source, self.destination] {
            reservations.disconnect(peer);
            if reservations.circuits_of(&peer) == 0 {
                without.push(peer);
            }
        }
        drop(reservations);
        for peer in without {
            self.relay.node.untag(&peer, TAG);
        }
    }
}

impl Inner {
    fn counted(self: &Arc<Self>, source: PeerId, destination: PeerId) -> Result<Counted, Status> {
        let mut reservations = self.reservations.lock();
        reservations.connect(source, destination, Instant::now())?;
        drop(reservations);
        for peer in [source, destination] {
            // Without a tag it is worth as much as before.
            let _ = self.node.tag(peer, TAG, WORTH);
        }
        Ok(Counted {
            relay: self.clone(),
            source,
            destination,
        })
    }

    /// Agrees with `destination` on a circuit and tells the peer on the other end so. Nothing if
    /// that peer has left meanwhile.
    pub(super) async fn connect(
        self: &Arc<Self>,
        inbound: &mut InboundStream,
        destination: PeerId,
    ) -> Result<Option<Circuit>, Status> {
        let source = inbound.peer;
        if destination == source {
            return Err(Status::PermissionDenied);
        }
        let counted = self.counted(source, destination)?;
        let charge = inbound.account.charge(CIRCUIT_COST);
        let charge = charge.map_err(|_| Status::ResourceLimitExceeded)?;
        let peer = self.node.streams().peers.get(&destination);
        let reached = peer.and_then(|peer| Some((peer.direct_connection()?, peer)));
        let (connection, peer) = reached.ok_or(Status::ConnectionFailed)?;
        let stream = self.call(source, &connection, &peer).await?;
        let entry = self.circuits.enter();
        let entry = entry.ok_or(Status::ConnectionFailed)?;
        let mut agreed = message::hop_status(Status::Ok);
        agreed.limit = Some(self.limits.message());
        let said = message::write(&mut inbound.stream, &agreed);
        if !matches!(timeout(ANSWER_TIMEOUT, said).await, Ok(Ok(()))) {
            return Ok(None);
        }
        tracing::debug!(%source, %destination, "a circuit begins");
        Ok(Some(Circuit {
            destination: Leg {
                stream,
                attached: connection,
            },
            destinations: peer.account.clone(),
            limits: self.limits,
            entry,
            counted,
            _charge: charge,
        }))
    }

    /// A stream to the destination, which has agreed to a circuit from `source`.
    async fn call(
        &self,
        source: PeerId,
        connection: &Arc<Connection>,
        destination: &Peer,
    ) -> Result<UserStream, Status> {
        let known = destination.protocols().unwrap_or_default();
        let names = [STOP.into()];
        let opening = self
            .node
            .streams()
            .open(connection, &known, &names, StreamUser::Daemon);
        let opened = timeout(OPEN_TIMEOUT, opening).await;
        let Ok(Ok((mut stream, _))) = opened else {
            return Err(Status::ConnectionFailed);
        };
        let request = StopMessage {
            r#type: Some(stop_message::Type::Connect.into()),
            peer: Some(message::peer(&source)),
            limit: Some(self.limits.message()),
            status: None,
        };
        let agreeing = async {
            message::write(&mut stream, &request).await.ok()?;
            message::read::<StopMessage>(&mut stream).await.ok()
        };
        let answer = timeout(HANDSHAKE_TIMEOUT, agreeing).await.ok().flatten();
        let agrees = |answer: &StopMessage| {
            answer.r#type == Some(stop_message::Type::Status.into())
                && answer.status == Some(Status::Ok.into())
        };
        match answer.as_ref().is_some_and(agrees) {
            true => Ok(stream),
            false => Err(Status::ConnectionFailed),
        }
    }
}
