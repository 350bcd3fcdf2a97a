//! Frames to the client of a persistent connection, and those from daemon to daemon.
//!
//! Go insists on every field, so empty ones are written too.

use bytes::Bytes;
use libp2p::PeerId;

use super::request::{Answer, CallId};
use crate::streams::ProtocolName;
use crate::wire::{
    frame,
    pb::{
        CallUnaryRequest, CallUnaryResponse, Cancel, DaemonError, PersistentConnectionRequest,
        PersistentConnectionResponse, call_unary_response,
        persistent_connection_request::Message as ToPeer,
        persistent_connection_response::Message as ToClient,
    },
};

fn to_client(id: &CallId, message: Option<ToClient>) -> Bytes {
    frame::encode(&PersistentConnectionResponse {
        call_id: Bytes::copy_from_slice(id),
        message,
    })
}

fn to_peer(id: &CallId, message: ToPeer) -> Bytes {
    frame::encode(&PersistentConnectionRequest {
        call_id: Some(Bytes::copy_from_slice(id)),
        message: Some(message),
    })
}

/// A handler was added or removed.
pub(super) fn done(id: &CallId) -> Bytes {
    to_client(id, None)
}

/// The outcome of the client's own call.
pub(super) fn answer(id: &CallId, answer: Answer) -> Bytes {
    to_client(id, Some(ToClient::CallUnaryResponse(unary(answer))))
}

/// The daemon could not do what was asked.
pub(super) fn failed(id: &CallId, text: String) -> Bytes {
    let message = Some(text);
    to_client(id, Some(ToClient::DaemonError(DaemonError { message })))
}

/// The client's own call is cancelled, or one that it handles is no longer wanted.
pub(super) fn cancelled(id: &CallId) -> Bytes {
    to_client(id, Some(ToClient::Cancel(Cancel {})))
}

/// A call of `caller` for the client to handle.
pub(super) fn handle(id: &CallId, caller: PeerId, name: &ProtocolName, data: Bytes) -> Bytes {
    to_client(
        id,
        Some(ToClient::RequestHandling(call(caller, name, data))),
    )
}

/// The call as it travels to `callee`.
pub(super) fn peer_call(id: &CallId, callee: PeerId, name: &ProtocolName, data: Bytes) -> Bytes {
    to_peer(id, ToPeer::CallUnary(call(callee, name, data)))
}

/// The answer as it travels back.
pub(super) fn peer_answer(id: &CallId, answer: Answer) -> Bytes {
    to_peer(id, ToPeer::UnaryResponse(unary(answer)))
}

fn call(peer: PeerId, name: &ProtocolName, data: Bytes) -> CallUnaryRequest {
    CallUnaryRequest {
        peer: Some(peer.to_bytes().into()),
        proto: Some(Bytes::copy_from_slice(name.as_bytes())),
        data: Some(data),
    }
}

fn unary(answer: Answer) -> CallUnaryResponse {
    CallUnaryResponse {
        result: Some(match answer {
            Ok(bytes) => call_unary_response::Result::Response(bytes),
            Err(bytes) => call_unary_response::Result::Error(bytes),
        }),
    }
}
