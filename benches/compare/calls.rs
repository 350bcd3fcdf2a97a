//! Both ends of calls: clients on persistent connections, blocking.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use prost::Message;
use rp2pd::wire::frame::{self, DEFAULT_MAX_FRAME};
use rp2pd::wire::pb::persistent_connection_request::Message as Ask;
use rp2pd::wire::pb::persistent_connection_response::Message as Told;
use rp2pd::wire::pb::{
    AddUnaryHandlerRequest, CallUnaryRequest, CallUnaryResponse, PersistentConnectionRequest,
    PersistentConnectionResponse, call_unary_response,
};

use crate::client::{Control, Peer};
use crate::load::{CHUNK, STACK};

/// A persistent connection.
#[derive(Debug)]
pub(crate) struct Persistent {
    socket: UnixStream,
    received: BytesMut,
    chunk: Box<[u8]>,
    /// Messages to be sent by the next [`Persistent::flush`].
    outgoing: BytesMut,
    /// Calls begun so far.
    begun: u64,
}

impl Persistent {
    /// # Errors
    /// The daemon does not upgrade the connection.
    pub(crate) fn open(control: Control) -> Result<Self> {
        let (socket, received) = control.upgrade()?;
        Ok(Self {
            socket,
            received,
            chunk: vec![0; CHUNK].into(),
            outgoing: BytesMut::new(),
            begun: 0,
        })
    }

    fn put(&mut self, id: Bytes, message: Ask) {
        let message = PersistentConnectionRequest {
            call_id: Some(id),
            message: Some(message),
        };
        self.outgoing.extend_from_slice(&frame::encode(&message));
    }

    /// Begins a call that `slot` names; [`Persistent::flush`] sends it.
    pub(crate) fn begin(&mut self, slot: usize, peer: &Peer, name: &str, data: &Bytes) {
        let call = CallUnaryRequest {
            peer: Some(peer.id.clone()),
            proto: Some(name.to_owned().into()),
            data: Some(data.clone()),
        };
        // Each call has an id of its own: Hivemind's daemon forgets some that are used again.
        self.begun += 1;
        let id = (u128::from(self.begun) << 64 | slot as u128).to_be_bytes();
        self.put(Bytes::copy_from_slice(&id), Ask::CallUnary(call));
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }

    /// The next message; reads only if none has come yet.
    fn next(&mut self) -> Result<PersistentConnectionResponse> {
        loop {
            if let Some(message) = self.ready()? {
                return Ok(message);
            }
            let count = self.socket.read(&mut self.chunk)?;
            ensure!(count > 0, "the persistent connection has ended");
            self.received.extend_from_slice(&self.chunk[..count]);
        }
    }

    fn ready(&mut self) -> Result<Option<PersistentConnectionResponse>> {
        let frame = frame::take(&mut self.received, 2 * DEFAULT_MAX_FRAME)?;
        Ok(frame
            .map(PersistentConnectionResponse::decode)
            .transpose()?)
    }

    /// The slots of the calls that have been answered, at least one; each answer must be
    /// `expected`.
    pub(crate) fn answered(&mut self, expected: &Bytes) -> Result<Vec<usize>> {
        let mut slots = Vec::new();
        let mut message = Some(self.next()?);
        while let Some(answer) = message {
            let Some(Told::CallUnaryResponse(CallUnaryResponse {
                result: Some(call_unary_response::Result::Response(response)),
            })) = answer.message
            else {
                bail!("no answer: {:?}", answer.message);
            };
            ensure!(response == *expected, "a wrong answer");
            let id = <[u8; 16]>::try_from(&answer.call_id[..])?;
            slots.push(usize::try_from(
                u128::from_be_bytes(id) & u128::from(u64::MAX),
            )?);
            message = self.ready()?;
        }
        Ok(slots)
    }
}

/// A client that answers calls with what they bring, on a thread of its own. It ends with
/// the value.
#[derive(Debug)]
pub(crate) struct Echo {
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Handles calls of `name`.
    pub(crate) fn serve(control: Control, name: &str) -> Result<Self> {
        let mut connection = Persistent::open(control)?;
        let add = AddUnaryHandlerRequest {
            proto: Some(name.to_owned().into()),
            balanced: Some(false),
        };
        connection.put(Bytes::from_static(&[0; 16]), Ask::AddUnaryHandler(add));
        connection.flush()?;
        let added = connection.next()?;
        ensure!(added.message.is_none(), "no handler: {:?}", added.message);
        let socket = connection.socket.try_clone()?;
        socket.set_read_timeout(None)?;
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                // A call without an answer shows at its caller.
                while answer(&mut connection).is_ok() {}
            })
            .context("start the handler")?;
        Ok(Self {
            socket,
            thread: Some(thread),
        })
    }
}

/// Answers the calls that have come, at least one.
fn answer(connection: &mut Persistent) -> Result<()> {
    let mut message = Some(connection.next()?);
    while let Some(call) = message {
        if let Some(Told::RequestHandling(request)) = call.message {
            let data = request.data.unwrap_or_default();
            let result = Some(call_unary_response::Result::Response(data));
            let answer = CallUnaryResponse { result };
            connection.put(call.call_id, Ask::UnaryResponse(answer));
        }
        message = connection.ready()?;
    }
    connection.flush()
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Fails only if the daemon has gone, which ends the thread as well.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
