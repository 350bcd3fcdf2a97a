//! A call of the client to another peer.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use libp2p::PeerId;
use tokio::{sync::oneshot, time::Instant};

use super::{
    connection::{Busy, PersistentConnection},
    error::CallError,
    exchange::exchange,
    outbox::SendError,
    request::{self, Answer, CallId},
    response,
};
use crate::{
    control::{request::DEFAULT_TIMEOUT, response::call_error},
    memory::Charge,
    metrics::{self, CallOutcome, Side},
    streams::ProtocolName,
    telemetry::Chain,
    wire::frame::FrameReader,
};

/// A call to be made.
#[derive(Debug)]
pub(super) struct OutboundCall {
    pub(super) id: CallId,
    pub(super) peer: PeerId,
    pub(super) name: ProtocolName,
    pub(super) data: Bytes,
    /// Its bytes until they are sent, and what it takes beside them.
    pub(super) charge: Charge,
}

impl OutboundCall {
    /// Makes the call and tells the client its outcome, unless the call is `removed` first.
    pub(super) async fn run(self, place: Busy, removed: oneshot::Receiver<Infallible>) {
        let connection = &place.connection;
        let (id, name) = (self.id, self.name.clone());
        let mut counted = metrics::Call::begin(Side::Caller);
        let made = tokio::select! {
            biased;
            // Dropping the stream tells the callee.
            _ = removed => {
                counted.end(CallOutcome::Cancelled);
                return;
            }
            made = self.make(connection) => made,
        };
        if !connection.end_call(&id) {
            return;
        }
        let failed = |error: &CallError| {
            tracing::debug!(error = %Chain(error), protocol = %name, "call failed");
            response::failed(&id, call_error(error, &name))
        };
        let frame = match made {
            Ok(answer) => {
                counted.end(CallOutcome::Ok);
                response::answer(&id, answer)
            }
            Err(error) => failed(&error),
        };
        drop(counted);
        // Any other error means that nobody is left to tell.
        if let Err(SendError::OverBudget(error)) = connection.outbox.send(frame).await {
            let frame = failed(&CallError::OverBudget(error));
            let _ = connection.outbox.send(frame).await;
        }
    }

    async fn make(self, connection: &PersistentConnection) -> Result<Answer, CallError> {
        let node = &connection.context.node;
        let Self {
            id,
            peer,
            name,
            data,
            charge,
        } = self;
        let (mut stream, mut request) = node
            .open_call(peer, &name, Instant::now() + DEFAULT_TIMEOUT)
            .await
            .map_err(CallError::Open)?;
        request.extend_from_slice(&response::peer_call(&id, peer, &name, data));
        let reader = FrameReader::new(connection.context.max_frame, BytesMut::new());
        let reader = reader.charged(connection.account.empty_charge());
        let answered = exchange(&mut stream, request, reader, charge);
        let frame = answered.await.map_err(|error| {
            let error = CallError::from(error);
            if matches!(error, CallError::Refused)
                && let Some(peer) = node.streams().peers.get(&peer)
            {
                peer.refused(&name);
            }
            error
        })?;
        request::answered(frame)
            .map_err(|error| CallError::Undecodable(error.to_string()))?
            .ok_or(CallError::Empty)
    }
}
