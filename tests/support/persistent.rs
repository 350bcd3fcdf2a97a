//! The client's end of a persistent connection: raw messages, blocking.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use rp2pd::wire::pb::persistent_connection_request::Message as Ask;
use rp2pd::wire::pb::persistent_connection_response::Message as Told;
use rp2pd::wire::pb::{
    AddUnaryHandlerRequest, CallUnaryRequest, CallUnaryResponse, Cancel,
    PersistentConnectionRequest, PersistentConnectionResponse, RemoveUnaryHandlerRequest, Response,
    call_unary_response, request,
};

use super::control::typed;
use super::{Control, ControlClient};

pub type CallId = [u8; 16];

/// What a handler makes of a call: its answer, or its own error.
pub type Answer = Result<Vec<u8>, Vec<u8>>;

/// How a call ended for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answer(Answer),
    DaemonError(String),
    Cancelled,
}

impl Outcome {
    /// The response; panics on any other end.
    #[must_use]
    pub fn response(self) -> Vec<u8> {
        match self {
            Self::Answer(Ok(response)) => response,
            other => panic!("no response: {other:?}"),
        }
    }

    /// The daemon's reason; panics on any other end.
    #[must_use]
    pub fn failure(self) -> String {
        match self {
            Self::DaemonError(text) => text,
            other => panic!("no daemonError: {other:?}"),
        }
    }
}

/// A call to be handled here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub id: CallId,
    pub peer: Vec<u8>,
    pub name: String,
    pub data: Vec<u8>,
}

/// An upgraded control connection.
#[derive(Debug)]
pub struct Persistent {
    pub client: ControlClient,
    /// Messages that came while another was awaited.
    kept: VecDeque<PersistentConnectionResponse>,
    next: u128,
}

impl Persistent {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// If nobody listens there, or the daemon closes instead of answering.
    pub fn connect(control: &Control) -> io::Result<Self> {
        let mut client = ControlClient::connect(control)?;
        let answer = client.request(&typed(request::Type::PersistentConnUpgrade))?;
        if answer != Response::default() {
            return Err(io::Error::other(format!("{answer:?}")));
        }
        Ok(Self::upgraded(client))
    }

    /// A connection that has been upgraded by other means.
    #[must_use]
    pub fn upgraded(client: ControlClient) -> Self {
        Self {
            client,
            kept: VecDeque::new(),
            next: 0,
        }
    }

    /// # Errors
    /// I/O.
    pub fn send(&mut self, id: &[u8], message: Option<Ask>) -> io::Result<()> {
        self.client.send(&PersistentConnectionRequest {
            call_id: Some(Bytes::copy_from_slice(id)),
            message,
        })
    }

    /// # Errors
    /// I/O; `UnexpectedEof` if the daemon closes.
    pub fn receive(&mut self) -> io::Result<PersistentConnectionResponse> {
        match self.kept.pop_front() {
            Some(message) => Ok(message),
            None => self.client.receive(),
        }
    }

    fn id(&mut self) -> CallId {
        self.next += 1;
        // Unlike the ids that the daemon makes up.
        (self.next | 0xca11 << 112).to_be_bytes()
    }

    /// Waits for the message with this id; keeps the others.
    fn await_id(&mut self, id: &CallId) -> io::Result<Option<Told>> {
        let kept = self
            .kept
            .iter()
            .position(|message| message.call_id[..] == *id);
        if let Some(message) = kept.and_then(|index| self.kept.remove(index)) {
            return Ok(message.message);
        }
        loop {
            let message: PersistentConnectionResponse = self.client.receive()?;
            if message.call_id[..] == *id {
                return Ok(message.message);
            }
            self.kept.push_back(message);
        }
    }

    fn ack(&mut self, ask: Ask) -> Result<(), String> {
        let id = self.id();
        self.send(&id, Some(ask)).expect("send");
        match self.await_id(&id).expect("an answer") {
            None => Ok(()),
            Some(Told::DaemonError(error)) => Err(error.message.expect("a text")),
            other => panic!("neither done nor failed: {other:?}"),
        }
    }

    /// Adds a handler.
    ///
    /// # Errors
    /// The daemon's text.
    pub fn add(&mut self, name: &str, balanced: bool) -> Result<(), String> {
        self.ack(Ask::AddUnaryHandler(AddUnaryHandlerRequest {
            proto: Some(name.to_owned().into()),
            balanced: Some(balanced),
        }))
    }

    /// Removes a handler.
    ///
    /// # Errors
    /// The daemon's text.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.ack(Ask::RemoveUnaryHandler(RemoveUnaryHandlerRequest {
            proto: Some(name.to_owned().into()),
        }))
    }

    /// Begins a call and returns its id.
    pub fn begin(&mut self, peer: PeerId, name: &str, data: &[u8]) -> CallId {
        let id = self.id();
        let ask = Ask::CallUnary(call_request(&peer.to_bytes(), name, data));
        self.send(&id, Some(ask)).expect("send the call");
        id
    }

    /// Waits for the outcome of a call.
    pub fn outcome(&mut self, id: &CallId) -> Outcome {
        let message = self.await_id(id).expect("an outcome");
        outcome(message).unwrap_or_else(|message| panic!("no outcome: {message:?}"))
    }

    /// One call from its beginning to its end.
    pub fn call(&mut self, peer: PeerId, name: &str, data: &[u8]) -> Outcome {
        let id = self.begin(peer, name, data);
        self.outcome(&id)
    }

    /// Cancels a call, this client's or one that it handles.
    pub fn cancel(&mut self, id: &CallId) {
        self.send(id, Some(Ask::Cancel(Cancel {}))).expect("send");
    }

    /// The next call that is to be handled here.
    ///
    /// # Errors
    /// I/O; `InvalidData` if another message comes first.
    pub fn incoming(&mut self) -> io::Result<Incoming> {
        let message = self.receive()?;
        let id = CallId::try_from(&message.call_id[..]).map_err(io::Error::other)?;
        match message.message {
            Some(Told::RequestHandling(call)) => Ok(Incoming {
                id,
                peer: call.peer.expect("a peer").into(),
                name: text(&call.proto.expect("a name")),
                data: call.data.expect("data").into(),
            }),
            other => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("no call: {other:?}"),
            )),
        }
    }

    /// Answers a call.
    ///
    /// # Errors
    /// I/O.
    pub fn answer(&mut self, id: &CallId, answer: Answer) -> io::Result<()> {
        self.send(id, Some(Ask::UnaryResponse(unary(answer))))
    }

    /// Waits for the daemon's word that the call `id` is no longer wanted.
    ///
    /// # Errors
    /// I/O.
    pub fn await_cancel(&mut self, id: &CallId) -> io::Result<()> {
        match self.await_id(id)? {
            Some(Told::Cancel(_)) => Ok(()),
            other => Err(io::Error::other(format!("no cancel: {other:?}"))),
        }
    }

    /// Nothing comes within `time`.
    #[must_use]
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.client
            .pipe
            .socket
            .set_timeout(time)
            .expect("a timeout");
        let silent = match self.receive() {
            Ok(message) => {
                self.kept.push_front(message);
                false
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        let patience = 2 * super::PATIENCE;
        self.client
            .pipe
            .socket
            .set_timeout(patience)
            .expect("a timeout");
        silent
    }

    /// Answers every call with what `handler` makes of it, on a thread, until the connection
    /// ends. Joining gives the number of calls.
    #[must_use]
    pub fn serve(
        mut self,
        handler: impl Fn(&Incoming) -> Answer + Send + 'static,
    ) -> JoinHandle<usize> {
        std::thread::spawn(move || {
            let mut calls = 0;
            while let Ok(message) = self.receive() {
                let Some(Told::RequestHandling(call)) = message.message else {
                    continue;
                };
                let call = Incoming {
                    id: message.call_id[..].try_into().expect("16 bytes"),
                    peer: call.peer.expect("a peer").into(),
                    name: text(&call.proto.expect("a name")),
                    data: call.data.expect("data").into(),
                };
                calls += 1;
                let answer = handler(&call);
                if self.answer(&call.id, answer).is_err() {
                    break;
                }
            }
            calls
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// How a call ended, if the message says that.
///
/// # Errors
/// The message, if it says something else.
pub fn outcome(message: Option<Told>) -> Result<Outcome, Option<Told>> {
    Ok(match message {
        Some(Told::CallUnaryResponse(CallUnaryResponse {
            result: Some(result),
        })) => Outcome::Answer(match result {
            call_unary_response::Result::Response(bytes) => Ok(bytes.into()),
            call_unary_response::Result::Error(bytes) => Err(bytes.into()),
        }),
        Some(Told::DaemonError(error)) => Outcome::DaemonError(error.message.unwrap_or_default()),
        Some(Told::Cancel(_)) => Outcome::Cancelled,
        other => return Err(other),
    })
}

#[must_use]
pub fn call_request(peer: &[u8], name: &str, data: &[u8]) -> CallUnaryRequest {
    CallUnaryRequest {
        peer: Some(Bytes::copy_from_slice(peer)),
        proto: Some(name.to_owned().into()),
        data: Some(Bytes::copy_from_slice(data)),
    }
}

#[must_use]
pub fn unary(answer: Answer) -> CallUnaryResponse {
    CallUnaryResponse {
        result: Some(match answer {
            Ok(bytes) => call_unary_response::Result::Response(bytes.into()),
            Err(bytes) => call_unary_response::Result::Error(bytes.into()),
        }),
    }
}
