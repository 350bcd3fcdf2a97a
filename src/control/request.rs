//! Frames to typed requests: the one place that knows what a malformed request is.

mod dht;
mod kind;
mod own;
mod steer;
mod tunnel;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use prost::Message as _;

use crate::{
    fixed_limits::fixed_limit,
    streams::{Policy, ProtocolName},
    wire::{
        maddr::{ControlAddr, multiaddr_from_bytes},
        multihash, pb,
    },
};

pub(super) use dht::{DhtRequest, Query};
pub(super) use kind::{HostRequest, PubSubRequest, Request};
pub(super) use own::{Validate, ValidateRecords, record_verdicts, verdicts};
pub(super) use steer::Steer;
pub(super) use tunnel::Tunnelling;

/// Time for CONNECT, STREAM_OPEN and DHT unless the client says otherwise (COMPATIBILITY.md 4.14).
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest timeout a client gets. Go overflows above 292 years; nobody waits for one.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
fixed_limit!("timeout that a client may ask for", time MAX_TIMEOUT);

/// Addresses tried for one CONNECT; the rest is ignored.
const MAX_ADDRESSES: usize = 256;
fixed_limit!("addresses of one CONNECT", MAX_ADDRESSES);

/// Go's text for a request whose sub-message is missing.
const MISSING_PARAMETERS: &str = "Malformed request; missing parameters";

/// A request that is answered with an ERROR straight away.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) reason: String,
    /// The bytes were no request at all; what follows them cannot be trusted.
    pub(super) close: bool,
}

fn refuse(reason: impl Into<String>) -> Rejected {
    Rejected {
        reason: reason.into(),
        close: false,
    }
}

fn undecodable(reason: impl std::fmt::Display) -> Rejected {
    Rejected {
        reason: format!("Malformed request; {reason}"),
        close: true,
    }
}

/// A type that nobody serves.
fn unexpected(kind: i64) -> Rejected {
    refuse(format!("Unexpected request; unknown type {kind}"))
}

fn missing(field: &str) -> Rejected {
    undecodable(format_args!("required field {field} not set"))
}

/// Reads one frame (COMPATIBILITY.md 4.1 to 4.3).
pub(super) fn parse(frame: Bytes) -> Result<Request, Rejected> {
    let request = pb::Request::decode(frame).map_err(undecodable)?;
    let kind = request.r#type.ok_or_else(|| missing("type"))?;
    let kind = i32::try_from(kind)
        .ok()
        .and_then(|kind| pb::request::Type::try_from(kind).ok())
        .ok_or_else(|| unexpected(kind))?;
    use pb::request::Type;
    Ok(Request::Host(match kind {
        Type::Identify => HostRequest::Identify,
        Type::Status => HostRequest::Status,
        Type::Connect => {
            let connect = request.connect.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
            HostRequest::Connect {
                peer: peer_id(connect.peer, "peer")?,
                addresses: addresses(&connect.addrs)?,
                timeout: timeout(connect.timeout),
            }
        }
        Type::StreamOpen => {
            let open = request
                .stream_open
                .ok_or_else(|| refuse(MISSING_PARAMETERS))?;
            HostRequest::OpenStream {
                peer: peer_id(open.peer, "peer")?,
                protocols: names(&open.proto),
                timeout: timeout(open.timeout),
            }
        }
        Type::StreamHandler => {
            let handler = request
                .stream_handler
                .ok_or_else(|| refuse(MISSING_PARAMETERS))?;
            HostRequest::SetHandler {
                addr: control_addr(handler.addr)?,
                protocols: names(&handler.proto),
                policy: match handler.balanced {
                    None => Policy::Replace,
                    Some(false) => Policy::Exclusive,
                    Some(true) => Policy::Balanced,
                },
            }
        }
        Type::RemoveStreamHandler => {
            if request.extension.is_empty() {
                return Err(refuse(MISSING_PARAMETERS));
            }
            let remove = request.extension.concat();
            let remove =
                pb::RemoveStreamHandlerRequest::decode(&remove[..]).map_err(undecodable)?;
            HostRequest::RemoveHandler {
                addr: control_addr(remove.addr)?,
                protocols: names(&remove.proto),
            }
        }
        Type::Disconnect => {
            let disconnect = request
                .disconnect
                .ok_or_else(|| refuse(MISSING_PARAMETERS))?;
            HostRequest::Disconnect {
                peer: peer_id(disconnect.peer, "peer")?,
            }
        }
        Type::ListPeers => HostRequest::ListPeers,
        Type::Dht => return Ok(Request::Dht(dht::parse(request.dht))),
        Type::Events => own::events(request.events)?,
        Type::Probe => own::probe(request.probe)?,
        Type::Pubsub => HostRequest::PubSub(pubsub(request.pubsub)),
        Type::Connmanager => conn_manager(request.conn_manager)?,
        Type::PubsubValidate => HostRequest::Validate(own::validate(request.pubsub_validate)),
        Type::Control => HostRequest::Steer(steer::parse(request.control)?),
        Type::Tunnel => HostRequest::Tunnel(tunnel::parse(request.tunnel)?),
        Type::DhtValidator => {
            HostRequest::ValidateRecords(own::validate_records(request.dht_validator))
        }
        Type::PersistentConnUpgrade => return persistent_or_peerstore(&request.extension),
    }))
}

fn pubsub(request: Option<pb::PsRequest>) -> Result<PubSubRequest, Rejected> {
    use pb::ps_request::Type;
    let request = request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let kind = request.r#type.ok_or_else(|| missing("type"))?;
    let kind = i32::try_from(kind)
        .ok()
        .and_then(|kind| Type::try_from(kind).ok())
        .ok_or_else(|| refuse("Unexpected request"))?;
    let topic = || {
        let topic = request
            .topic
            .ok_or_else(|| refuse("Malformed request; missing topic parameter"))?;
        Ok(Arc::from(&topic[..]))
    };
    Ok(match kind {
        Type::GetTopics => PubSubRequest::Topics,
        Type::ListPeers => PubSubRequest::Peers { topic: topic()? },
        Type::Subscribe => PubSubRequest::Subscribe { topic: topic()? },
        Type::Publish => PubSubRequest::Publish {
            topic: topic()?,
            data: request.data,
        },
    })
}

/// Type 9 means one thing to Hivemind and another to JavaScript (COMPATIBILITY.md 4.2).
fn persistent_or_peerstore(extension: &[bytes::Bytes]) -> Result<Request, Rejected> {
    const PEERSTORE_FIRST_FIELD: u8 = 0x08;
    const LENGTH_DELIMITED_FIRST_FIELD: u8 = 0x0a;
    let body = extension.concat();
    match body.first() {
        None if extension.is_empty() => Ok(Request::Upgrade),
        None => Err(refuse("ERR_INVALID_REQUEST_TYPE")),
        Some(&LENGTH_DELIMITED_FIRST_FIELD) => Ok(Request::Upgrade),
        Some(&PEERSTORE_FIRST_FIELD) => {
            let peerstore = pb::PeerstoreRequest::decode(&body[..]).map_err(undecodable)?;
            let kind = peerstore
                .r#type
                .and_then(|kind| i32::try_from(kind).ok())
                .and_then(|kind| pb::peerstore_request::Type::try_from(kind).ok());
            let peer = || match &peerstore.id {
                Some(id) => peer_id(Some(id.clone()), "id"),
                None => Err(refuse("Invalid request")),
            };
            match kind {
                Some(pb::peerstore_request::Type::GetProtocols) => {
                    Ok(Request::Host(HostRequest::PeerProtocols { peer: peer()? }))
                }
                Some(pb::peerstore_request::Type::GetPeerInfo) => {
                    Ok(Request::Host(HostRequest::PeerInfo { peer: peer()? }))
                }
                Some(pb::peerstore_request::Type::Unspecified) | None => {
                    Err(refuse("ERR_INVALID_REQUEST_TYPE"))
                }
            }
        }
        Some(_) => Err(undecodable("field 9 is no known message")),
    }
}

fn conn_manager(request: Option<pb::ConnManagerRequest>) -> Result<HostRequest, Rejected> {
    use pb::conn_manager_request::Type;
    let request = request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let kind = request.r#type.ok_or_else(|| missing("connManager.type"))?;
    let kind = i32::try_from(kind)
        .ok()
        .and_then(|kind| Type::try_from(kind).ok())
        .ok_or_else(|| refuse("Unexpected request"))?;
    if kind == Type::Trim {
        return Ok(HostRequest::Trim);
    }
    // In Go an absent peer id is an empty one.
    let peer = peer_id(Some(request.peer.unwrap_or_default()), "peer")?;
    let tag = request.tag.filter(|tag| !tag.is_empty());
    let tag = tag.ok_or_else(|| refuse("Malformed request; missing tag parameter"))?;
    Ok(match kind {
        Type::UntagPeer => HostRequest::Untag { peer, tag },
        _ => HostRequest::Tag {
            peer,
            tag,
            weight: request.weight.unwrap_or_default(),
        },
    })
}

fn addresses(bytes: &[Bytes]) -> Result<Vec<Multiaddr>, Rejected> {
    let addresses = bytes.iter().take(MAX_ADDRESSES);
    addresses
        .map(|bytes| multiaddr_from_bytes(bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))
}

/// Copies, because handlers outlive the frame that registers them.
fn names(names: &[Bytes]) -> Vec<ProtocolName> {
    names.iter().map(|name| name[..].into()).collect()
}

fn timeout(seconds: Option<i64>) -> Duration {
    match seconds.and_then(|seconds| u64::try_from(seconds).ok()) {
        None | Some(0) => DEFAULT_TIMEOUT,
        Some(seconds) => Duration::from_secs(seconds).min(MAX_TIMEOUT),
    }
}

fn control_addr(bytes: Option<bytes::Bytes>) -> Result<ControlAddr, Rejected> {
    let bytes = bytes.ok_or_else(|| missing("addr"))?;
    ControlAddr::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
}

pub(super) fn peer_id(bytes: Option<bytes::Bytes>, field: &str) -> Result<PeerId, Rejected> {
    let bytes = bytes.ok_or_else(|| missing(field))?;
    multihash::decode(&bytes).map_err(|error| refuse(error.to_string()))?;
    PeerId::from_bytes(&bytes).map_err(|error| refuse(format!("invalid peer id: {error}")))
}
