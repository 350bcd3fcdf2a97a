//! Persistent connections (COMPATIBILITY.md 4.19 to 4.22): calls between clients of two
//! daemons, many at a time on one connection.
//!
//! `request` and `response` know the messages, `outbox` what waits for the client, `call`
//! and `answer` one call each way, `connection` what they share, `table` which connections
//! there are. Here is the task that reads what the client sends.

mod answer;
mod call;
mod connection;
pub(super) mod error;
mod exchange;
pub(super) mod fuzzing;
mod outbox;
mod request;
mod response;
mod table;

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use libp2p::PeerId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, split},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

pub use table::Connections;

use super::{
    client::Client,
    context::Context,
    response::{call_error, registry_error},
    socket::Socket,
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Charge, OverBudget},
    streams::{MAX_NAME, ProtocolName, RegistryError, Target},
    wire::frame::{FrameError, FrameReader, ReadError},
};
use call::OutboundCall;
use connection::PersistentConnection;
use error::CallError;
use outbox::{Lanes, outbox};
use request::{Answer, CallId, Malformed, Message};

/// How long the last frames may take to reach a client that has gone wrong.
const FAREWELL: Duration = Duration::from_secs(1);

/// Memory that a call under way takes beside its bytes.
const CALL: usize = 1024;
fixed_limit!("memory charged for a call beside its own bytes", bytes CALL);

/// Largest part of a frame that is copied where the whole frame is not needed any longer, in bytes.
const SMALL: usize = 64 * 1024;

/// A connection in its persistent mode.
#[derive(Debug)]
pub(super) struct Persistent {
    socket: Socket,
    reader: FrameReader,
    lanes: Lanes,
    entered: Entered,
    /// The place among the clients that send requests.
    _permit: OwnedSemaphorePermit,
}

/// Ends what there is of a connection however its task ends.
#[derive(Debug)]
struct Entered {
    connection: Arc<PersistentConnection>,
    table: Arc<Connections>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connection.end();
        self.table.leave(self.connection.id);
    }
}

/// Why there is nothing more to read.
enum End {
    /// The client has closed, or the daemon stops and no call is left.
    Closed,
    /// What the client sends cannot be read on.
    Broken(Malformed),
}

impl Persistent {
    /// `None` if the daemon is over.
    pub(super) fn enter(
        client: Client,
        context: Arc<Context>,
        table: Arc<Connections>,
        permit: OwnedSemaphorePermit,
    ) -> Option<Self> {
        let Client {
            socket,
            reader,
            output,
            account,
        } = client;
        let (outbox, lanes) = outbox(output, account.clone(), socket.send_buffer());
        let connection =
            table.enter(|id| PersistentConnection::new(id, context, account, outbox))?;
        Some(Self {
            socket,
            reader,
            lanes,
            entered: Entered { connection, table },
            _permit: permit,
        })
    }

    /// Serves the client until it closes or sends what is no message.
    ///
    /// # Errors
    /// If the client can no longer be read from or written to.
    pub(super) async fn run(self) -> io::Result<()> {
        let Self {
            socket,
            mut reader,
            mut lanes,
            entered,
            _permit,
        } = self;
        let (mut source, mut sink) = split(socket);
        let connection = &entered.connection;
        let end = tokio::select! {
            biased;
            end = read(connection, &mut source, &mut reader) => end?,
            written = lanes.write(&mut sink) => return written,
        };
        let mut last = BytesMut::new();
        let pending = connection.end();
        if let End::Broken(Malformed { id, reason, .. }) = end {
            tracing::debug!(reason, "persistent connection ended");
            // Clients wait for ever for the answer to a call whose connection has gone.
            let text = format!("persistent connection closed: {reason}");
            let told = id.map(|id| (id, reason));
            let all = pending.into_iter().map(|id| (id, text.clone()));
            for (id, text) in told.into_iter().chain(all) {
                last.extend_from_slice(&response::failed(&id, text));
            }
        }
        let farewell = async {
            lanes.close();
            lanes.write(&mut sink).await?;
            sink.write_all(&last).await?;
            sink.shutdown().await?;
            if !last.is_empty() {
                // Closing a socket with unread bytes would destroy what was just written.
                let mut rest = [0; 4096];
                while source.read(&mut rest).await? > 0 {}
            }
            Ok(())
        };
        // A client that does not read has had its time.
        timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))
    }
}

async fn read(
    connection: &Arc<PersistentConnection>,
    socket: &mut ReadHalf<Socket>,
    reader: &mut FrameReader,
) -> io::Result<End> {
    let closing = connection.context.closing.clone();
    let mut closing = pin!(closing.cancelled());
    let mut stopping = false;
    loop {
        match reader.take() {
            Ok(Some(frame)) => {
                if let Err(rejected) = obey(connection, frame, stopping).await {
                    if rejected.close {
                        return Ok(End::Broken(rejected));
                    }
                    tracing::debug!(reason = rejected.reason, "message rejected");
                    if let Some(id) = rejected.id {
                        send(connection, response::failed(&id, rejected.reason)).await;
                    }
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                let id = too_large(error, reader.received());
                return Ok(End::Broken(broken(id, &error.into())));
            }
        }
        if stopping && connection.is_quiet() {
            return Ok(End::Closed);
        }
        let filled = tokio::select! {
            biased;
            () = closing.as_mut(), if !stopping => {
                stopping = true;
                continue;
            }
            () = connection.quieter.notified(), if stopping => continue,
            filled = reader.fill(socket) => filled,
        };
        match filled {
            Ok(()) => {}
            Err(ReadError::Closed | ReadError::Cut) => return Ok(End::Closed),
            Err(ReadError::OverBudget(error)) => {
                let id = request::peek(reader.refused_payload());
                tracing::debug!(%error, "message refused");
                if let Some(id) = id {
                    // If it was the answer to a call, that has no answer.
                    connection.end_handling(&id);
                    send(connection, response::failed(&id, error.to_string())).await;
                }
            }
            Err(ReadError::Io(error)) => return Err(error),
            Err(error) => return Ok(End::Broken(broken(None, &error))),
        }
    }
}

fn broken(id: Option<CallId>, error: &ReadError) -> Malformed {
    Malformed {
        id,
        reason: error.to_string(),
        close: true,
    }
}

/// The id of the call that a frame above the limit holds, as far as it has come.
fn too_large(error: FrameError, input: &[u8]) -> Option<CallId> {
    let FrameError::TooLarge { .. } = error else {
        return None;
    };
    let (_, payload) = unsigned_varint::decode::u64(input).ok()?;
    request::peek(payload)
}

async fn send(connection: &PersistentConnection, frame: Bytes) {
    // Short frames have room always. An error means that the client is gone, which its own reading
    // ends with.
    let _ = connection.outbox.send(frame).await;
}

/// Does what the client asks for; calls go on by themselves.
async fn obey(
    connection: &Arc<PersistentConnection>,
    frame: Bytes,
    stopping: bool,
) -> Result<(), Malformed> {
    let (id, message) = request::parse(&frame)?;
    let registry = &connection.context.node.streams().registry;
    let handler = Target::Persistent(connection.id);
    let changed = |result: Result<(), RegistryError>| match result {
        Ok(()) => response::done(&id),
        Err(error) => response::failed(&id, registry_error(&error)),
    };
    match message {
        Message::Add { name, policy } => {
            let added = changed(registry.register(&handler, &[name], policy));
            send(connection, added).await;
        }
        Message::Remove { name } => {
            let removed = changed(registry.unregister_calls(connection.id, &name));
            send(connection, removed).await;
        }
        Message::Call { peer, name, data } => {
            let begun = if stopping {
                Err(CallError::Stopping)
            } else {
                begin(connection, id, peer, &name, data)
            };
            if let Err(error) = begun {
                let text = call_error(&error, &name);
                send(connection, response::failed(&id, text)).await;
            }
        }
        Message::Answer(answer) => {
            let answer = held(connection, answer).map_err(|error| {
                connection.end_handling(&id);
                Malformed {
                    id: Some(id),
                    reason: error.to_string(),
                    close: false,
                }
            })?;
            if !connection.answered(&id, answer) {
                tracing::debug!("answer to a call that nobody waits for");
            }
        }
        Message::Cancel => {
            if connection.end_call(&id) {
                send(connection, response::cancelled(&id)).await;
            }
        }
    }
    Ok(())
}

/// Charges an answer, which outlives its frame.
fn held(connection: &PersistentConnection, answer: Answer) -> Result<(Answer, Charge), OverBudget> {
    let (Ok(bytes) | Err(bytes)) = &answer;
    let charge = connection.account.charge(bytes.len())?;
    let answer = match answer {
        Ok(bytes) => Ok(detached(bytes)),
        Err(bytes) => Err(detached(bytes)),
    };
    Ok((answer, charge))
}

/// `part` of a frame. A small part does not keep the whole.
fn detached(part: Bytes) -> Bytes {
    if part.len() > SMALL {
        part
    } else {
        Bytes::copy_from_slice(&part)
    }
}

fn begin(
    connection: &Arc<PersistentConnection>,
    id: CallId,
    peer: PeerId,
    name: &ProtocolName,
    data: Bytes,
) -> Result<(), CallError> {
    let length = name.as_bytes().len();
    if length == 0 || length > MAX_NAME {
        return Err(CallError::BadName(length));
    }
    let too_many = || {
        Limit::Calls.hit();
        CallError::TooMany
    };
    let charge = connection.account.charge(CALL + data.len());
    let charge = charge.map_err(CallError::OverBudget)?;
    let place = connection.calling().ok_or_else(too_many)?;
    let removed = connection.begin_call(id).ok_or(CallError::InUse)?;
    let call = OutboundCall {
        id,
        peer,
        name: name.clone(),
        data: detached(data),
        charge,
    };
    connection.context.tasks.spawn(call.run(place, removed));
    Ok(())
}
