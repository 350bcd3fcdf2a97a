//! Frames of a persistent connection to typed messages: the one place that knows what is
//! malformed there.

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message as _;

use crate::{
    control::request::peer_id,
    streams::{Policy, ProtocolName},
    wire::pb::{
        CallUnaryRequest, CallUnaryResponse, PersistentConnectionRequest, call_unary_response,
        persistent_connection_request::Message as Body,
    },
};

/// Names a call or a request; the caller's choice.
pub(super) type CallId = [u8; 16];

/// How every encoder begins a frame: field 1, 16 bytes.
const ID_FIRST: [u8; 2] = [0x0a, 0x10];

/// What a client wants.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Add {
        name: ProtocolName,
        policy: Policy,
    },
    Remove {
        name: ProtocolName,
    },
    Call {
        peer: PeerId,
        name: ProtocolName,
        data: Bytes,
    },
    Answer(Answer),
    Cancel,
}

/// What a handler makes of a call: its answer, or its own error.
pub(super) type Answer = Result<Bytes, Bytes>;

/// A frame that is answered with an error straight away.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed {
    /// Whom to tell, as far as that is known.
    pub(super) id: Option<CallId>,
    pub(super) reason: String,
    /// The bytes were no message at all; what follows them cannot be trusted.
    pub(super) close: bool,
}

/// Reads one frame (COMPATIBILITY.md 4.19).
pub(super) fn parse(frame: &Bytes) -> Result<(CallId, Message), Malformed> {
    let request =
        PersistentConnectionRequest::decode(frame.clone()).map_err(|error| Malformed {
            id: peek(frame),
            reason: format!("Malformed request; {error}"),
            close: true,
        })?;
    let id = request.call_id.unwrap_or_default();
    let id = CallId::try_from(&id[..]).map_err(|_| Malformed {
        id: None,
        reason: format!("Malformed request; call id of {} bytes", id.len()),
        close: id.is_empty(),
    })?;
    let refuse = |reason: String| Malformed {
        id: Some(id),
        reason,
        close: false,
    };
    let missing =
        |field: &str| refuse(format!("Malformed request; required field {field} not set"));
    let name = |proto: Option<Bytes>| match proto {
        Some(proto) => Ok(proto[..].into()),
        None => Err(missing("proto")),
    };
    let message = match request.message {
        Some(Body::AddUnaryHandler(add)) => Message::Add {
            name: name(add.proto)?,
            policy: match add.balanced {
                Some(false) => Policy::Exclusive,
                Some(true) => Policy::Balanced,
                None => return Err(missing("balanced")),
            },
        },
        Some(Body::RemoveUnaryHandler(remove)) => Message::Remove {
            name: name(remove.proto)?,
        },
        Some(Body::CallUnary(call)) => {
            let CallUnaryRequest { peer, proto, data } = call;
            Message::Call {
                peer: peer_id(peer, "peer").map_err(|rejected| refuse(rejected.reason))?,
                name: name(proto)?,
                data: data.ok_or_else(|| missing("data"))?,
            }
        }
        Some(Body::UnaryResponse(response)) => {
            Message::Answer(answer(response).ok_or_else(|| missing("response"))?)
        }
        Some(Body::Cancel(_)) => Message::Cancel,
        None => return Err(refuse("Malformed request; no known message".to_owned())),
    };
    Ok((id, message))
}

/// The call id that `frame` begins with, for a frame that is no message.
pub(super) fn peek(frame: &[u8]) -> Option<CallId> {
    let id = frame.strip_prefix(&ID_FIRST)?;
    id.first_chunk().copied()
}

/// The call that a peer makes: its id there, and its bytes (COMPATIBILITY.md 4.21).
pub(super) fn call(frame: Bytes) -> Option<(CallId, Bytes)> {
    let request = PersistentConnectionRequest::decode(frame).ok()?;
    let id = CallId::try_from(&request.call_id?[..]).ok()?;
    match request.message? {
        Body::CallUnary(call) => Some((id, call.data?)),
        _ => None,
    }
}

/// The answer of a peer; `None` if there is neither a response nor an error in it.
pub(super) fn answered(frame: Bytes) -> Result<Option<Answer>, prost::DecodeError> {
    let request = PersistentConnectionRequest::decode(frame)?;
    Ok(match request.message {
        Some(Body::UnaryResponse(response)) => answer(response),
        _ => None,
    })
}

fn answer(response: CallUnaryResponse) -> Option<Answer> {
    Some(match response.result? {
        call_unary_response::Result::Response(bytes) => Ok(bytes),
        call_unary_response::Result::Error(bytes) => Err(bytes),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::persistent::response::peer_call;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            noise in prop::collection::vec(any::<u8>(), 0..100),
            id in any::<CallId>(),
            data in prop::collection::vec(any::<u8>(), 0..100),
            at in 0..200_usize,
            with in any::<u8>(),
        ) {
            let _ = parse(&noise.into());
            let peer = PeerId::random();
            let frame = peer_call(&id, peer, &"name".into(), data.clone().into());
            // Without its length, of one byte or two.
            let frame = frame.slice(1 + usize::from(frame[0] >= 0x80)..);
            let call = Message::Call { peer, name: "name".into(), data: data.into() };
            prop_assert_eq!(parse(&frame), Ok((id, call)));
            prop_assert_eq!(peek(&frame), Some(id));
            let mut spoilt = frame.to_vec();
            let at = at % spoilt.len();
            spoilt[at] = with;
            let spoilt = Bytes::from(spoilt);
            if let Err(rejected) = parse(&spoilt) {
                // A spoilt tag or length of the id, or another field made into a second id.
                prop_assert!(rejected.close || rejected.id.is_some() || at < 2 || at == 18);
            }
            let _ = super::call(spoilt.clone());
            let _ = answered(spoilt.slice(..at));
        }
    }
}
