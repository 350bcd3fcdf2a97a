//! A call of another peer that the client handles.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead as _, AsyncWriteExt as _};
use libp2p::PeerId;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    connection::{Busy, PersistentConnection},
    request::{self, Answer, CallId},
    response,
};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Account, Charge},
    metrics::{self, CallOutcome, Side},
    streams::{ProtocolName, UserStream},
    telemetry::Chain,
    wire::frame::FrameReader,
};

/// How long the caller may be silent within its call (SECURITY.md 3).
const SILENCE: Duration = Duration::from_secs(30);
fixed_limit!("silence within a call", time SILENCE);

/// How long the caller may take to read its answer (SECURITY.md 3).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
fixed_limit!("time for a caller to take its answer", time ANSWER_TIMEOUT);

/// Largest part of a call that is read before the peer needs a place for large ones, in
/// bytes.
const SMALL: usize = 64 * 1024;

/// A place for one call at a client.
#[derive(Debug)]
pub(in crate::control) struct Place(Busy);

impl Place {
    pub(super) fn take(connection: Arc<PersistentConnection>) -> Option<Self> {
        connection.handling().map(Self)
    }

    /// Serves the call of `caller`, whose account this is, that comes on `stream`.
    ///
    /// A caller whose call is not answered reads the end of the stream.
    pub(in crate::control) async fn serve(
        self,
        caller: PeerId,
        name: ProtocolName,
        stream: UserStream,
        account: &Arc<Account>,
    ) {
        let connection = &self.0.connection;
        let mut counted = metrics::Call::begin(Side::Callee);
        let mut stream = stream.close_only();
        let reader = FrameReader::new(connection.context.max_frame, BytesMut::new());
        let reader = reader.charged(account.empty_charge());
        let handled = match read(connection, caller, &mut stream, reader).await {
            Some(call) => {
                let id = call.id;
                let handled = handle(connection, caller, &name, call, &mut stream).await;
                handled.map(|(answer, charge)| (response::peer_answer(&id, answer), Some(charge)))
            }
            None => Handled::Lost,
        };
        let (last, _charge) = match handled {
            Handled::Answered(answer) => {
                counted.end(CallOutcome::Ok);
                answer
            }
            Handled::Lost => (Bytes::new(), None),
            Handled::Cancelled => {
                counted.end(CallOutcome::Cancelled);
                return;
            }
        };
        drop(counted);
        hold(&mut stream, last.len());
        let sent = async {
            stream.write_all(&last).await?;
            stream.close().await
        };
        // A caller that has gone needs no answer.
        let _ = timeout(ANSWER_TIMEOUT, sent).await;
    }
}

/// A call as it came.
struct InboundCall {
    /// The caller's name for it.
    id: CallId,
    data: Bytes,
    /// Charges it to the caller until it waits for the client.
    reader: FrameReader,
    /// Held until then as well.
    large: Option<OwnedSemaphorePermit>,
}

enum Handled<T> {
    Answered(T),
    /// The caller has given up.
    Cancelled,
    /// The client is gone, or the call was none.
    Lost,
}

impl<T> Handled<T> {
    fn map<U>(self, with: impl FnOnce(T) -> U) -> Handled<U> {
        match self {
            Self::Answered(answer) => Handled::Answered(with(answer)),
            Self::Cancelled => Handled::Cancelled,
            Self::Lost => Handled::Lost,
        }
    }
}

/// What a large call or answer takes counts for the caller's connection.
fn hold(stream: &mut UserStream, bytes: usize) {
    stream.blocked(if bytes > SMALL { bytes } else { 0 });
}

/// Reads the call; `None` if it is none.
async fn read(
    connection: &PersistentConnection,
    caller: PeerId,
    stream: &mut UserStream,
    mut reader: FrameReader,
) -> Option<InboundCall> {
    let mut large = None;
    loop {
        match reader.take() {
            Ok(Some(frame)) => {
                let (id, data) = request::call(frame)?;
                return Some(InboundCall {
                    id,
                    data,
                    reader,
                    large,
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(peer = %caller, error = %Chain(&error), "call refused");
                return None;
            }
        }
        let received = reader.received().len();
        if large.is_none() && received > SMALL {
            let peer = connection.context.node.streams().peers.get(&caller)?;
            large = Some(peer.large.clone().acquire_owned().await.ok()?);
        }
        hold(stream, received);
        reader.limit(SILENCE);
        if let Err(error) = reader.fill(stream).await {
            tracing::debug!(peer = %caller, error = %Chain(&error), "call cut short");
            return None;
        }
    }
}

/// Hands the call to the client and waits for its answer.
async fn handle(
    connection: &PersistentConnection,
    caller: PeerId,
    name: &ProtocolName,
    call: InboundCall,
    stream: &mut UserStream,
) -> Handled<(Answer, Charge)> {
    let InboundCall {
        data,
        reader,
        large,
        ..
    } = call;
    let Some((id, mut answered)) = connection.begin_handling() else {
        return Handled::Lost;
    };
    let frame = response::handle(&id, caller, name, data);
    // Whatever comes from the caller now, were it the end, cancels the call, as in Go.
    let mut rest = [0];
    let mut given_up = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut rest));
    let lane = tokio::select! {
        biased;
        _ = &mut given_up => {
            connection.end_handling(&id);
            return Handled::Cancelled;
        }
        sent = connection.outbox.send(frame) => match sent {
            Ok(lane) => lane,
            Err(error) => {
                tracing::debug!(peer = %caller, error = %Chain(&error), "call not handed on");
                connection.end_handling(&id);
                return Handled::Lost;
            }
        },
    };
    drop((reader, large));
    tokio::select! {
        biased;
        answer = &mut answered => answer.map_or(Handled::Lost, Handled::Answered),
        _ = &mut given_up => {
            if connection.end_handling(&id) {
                // An error means that the client is gone as well.
                let _ = connection.outbox.send_by(lane, response::cancelled(&id)).await;
            }
            Handled::Cancelled
        }
    }
}
