//! Circuits to peers that can be reached through a relay only.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout};

use super::message::{self, HOP, HopMessage, RelayMessageError, Status, hop_message};
use crate::{
    fixed_limits::fixed_limit,
    node::{CircuitDialer, CircuitError, Node, SharedError, StreamError},
    streams::{NegotiationError, OpenError, UserStream},
};

/// Time to reach the relay and to agree on the protocol (go-libp2p's value).
const RELAY_TIMEOUT: Duration = Duration::from_secs(5);
fixed_limit!("reaching a relay for a circuit", time RELAY_TIMEOUT);

/// Time for the relay to reach the destination (go-libp2p's value for the whole circuit).
const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(60);
fixed_limit!("answer of a relay to the request for a circuit", time CIRCUIT_TIMEOUT);

/// Opens circuits on streams of `Node`.
#[derive(Debug)]
pub(super) struct Dialer(pub(super) Node);

impl CircuitDialer for Dialer {
    fn dial(
        &self,
        relay: PeerId,
        addresses: Vec<Multiaddr>,
        destination: PeerId,
    ) -> BoxFuture<'static, Result<UserStream, CircuitError>> {
        let node = self.0.clone();
        async move {
            let deadline = Instant::now() + RELAY_TIMEOUT;
            let opened = node
                .open_relay_stream(relay, addresses, HOP, deadline)
                .await;
            let mut stream = opened.map_err(relay_error)?.stream;
            timeout(CIRCUIT_TIMEOUT, connect(&mut stream, &destination))
                .await
                .map_err(|_| CircuitError::DeadlineExceeded)??;
            Ok(stream)
        }
        .boxed()
    }
}

fn relay_error(error: StreamError) -> CircuitError {
    match error {
        StreamError::Dial(error) => CircuitError::Relay(Box::new(error)),
        StreamError::Open(OpenError::Negotiation(NegotiationError::NotSupported)) => {
            CircuitError::NotSpoken
        }
        StreamError::NegotiationTimeout | StreamError::Identify => CircuitError::Open,
        error @ (StreamError::Open(_) | StreamError::NoProtocols) => lost(error),
    }
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> CircuitError {
    CircuitError::Stream(SharedError::new(error))
}

/// Asks the relay for a circuit to `destination`. Then `stream` is the raw connection.
async fn connect(stream: &mut UserStream, destination: &PeerId) -> Result<(), CircuitError> {
    let request = HopMessage {
        r#type: Some(hop_message::Type::Connect.into()),
        peer: Some(message::peer(destination)),
        ..HopMessage::default()
    };
    let sent = message::write(stream, &request).await;
    sent.map_err(lost)?;
    let answer: HopMessage = message::read(stream).await.map_err(|error| match error {
        RelayMessageError::Stream(error)
            if error.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            CircuitError::NotSpoken
        }
        error => lost(error),
    })?;
    let kind = answer.r#type.unwrap_or_default();
    if kind != i32::from(hop_message::Type::Status) {
        return Err(CircuitError::Unexpected(kind));
    }
    let status = answer.status.unwrap_or_default();
    match Status::try_from(status) {
        Ok(Status::Ok) => Ok(()),
        Ok(known) => Err(CircuitError::Refused(status, known.as_str_name())),
        Err(_) => Err(CircuitError::Refused(status, "")),
    }
}
