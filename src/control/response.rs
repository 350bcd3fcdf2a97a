//! Replies to protobuf. Which of Go's words a client reads is decided here and in
//! `persistent/response`; an error whose own text is Go's, such as that of a malformed multiaddr or
//! of a DHT query, is passed on as it is.

mod event;
mod steer;
pub(super) mod text;
mod tunnel;
mod validators;

use std::sync::Arc;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use crate::{
    dht::PeerInfo,
    memory::OverBudget,
    node::{OpenedStream, Probed},
    wire::pb,
};

pub(super) use event::followed;
pub(super) use steer::{announced, limits, listeners, peer_records, rules, tags, traffic};
use text::cause_text;
pub(crate) use text::dial_error;
pub(super) use text::{
    call_error, denied, publish_error, query_error, registry_error, stream_error, subscribe_error,
    tag_error,
};
pub(super) use tunnel::tunnels;
pub(super) use validators::{to_record_validator, to_topic_validator};

pub(super) fn ok() -> pb::Response {
    pb::Response::default()
}

pub(super) fn error(text: impl Into<String>) -> pb::Response {
    pb::Response {
        r#type: pb::response::Type::Error.into(),
        error: Some(pb::ErrorResponse { msg: text.into() }),
        ..pb::Response::default()
    }
}

/// The answer to a request, or in place of an answer, for which the client's share of the memory has
/// no room.
pub(super) fn over_budget() -> pb::Response {
    error(OverBudget.to_string())
}

/// The answer to a DHT request without a DHT.
pub(super) fn no_dht() -> pb::Response {
    error("DHT not enabled")
}

/// The answer to a pubsub request without pubsub.
pub(super) fn no_pubsub() -> pb::Response {
    error("PubSub not enabled")
}

/// The answer about a peer that the peerstore does not know.
pub(super) fn unknown_peer(peer: PeerId) -> pb::Response {
    error(format!("peer {peer} not found"))
}

pub(super) fn identify(peer: PeerId, addresses: &[Multiaddr]) -> pb::Response {
    pb::Response {
        identify: Some(pb::IdentifyResponse {
            id: peer.to_bytes().into(),
            addrs: bytes(addresses),
        }),
        ..ok()
    }
}

pub(super) fn probed(probed: &[Probed]) -> pb::Response {
    let address = |one: &Probed| pb::ProbedAddress {
        addr: one.address.to_vec().into(),
        name: one.name.as_ref().map(|name| name.to_vec().into()),
        micros: u64::try_from(one.time.as_micros()).unwrap_or(u64::MAX),
        peer: one.answer.as_ref().ok().map(|peer| peer.to_bytes().into()),
        error: one.answer.as_ref().err().map(cause_text),
    };
    pb::Response {
        probe: Some(pb::ProbeResponse {
            addrs: probed.iter().map(address).collect(),
        }),
        ..ok()
    }
}

pub(super) fn status(document: Bytes) -> pb::Response {
    pb::Response {
        status: Some(document),
        ..ok()
    }
}

pub(super) fn peers(peers: Vec<(PeerId, Vec<Multiaddr>)>) -> pb::Response {
    pb::Response {
        peers: peers
            .into_iter()
            .map(|(peer, addresses)| peer_info(peer, &addresses))
            .collect(),
        ..ok()
    }
}

pub(super) fn stream(peer: PeerId, opened: &OpenedStream) -> pb::Response {
    pb::Response {
        stream_info: Some(pb::StreamInfo {
            peer: peer.to_bytes().into(),
            addr: opened.remote.to_vec().into(),
            proto: Bytes::copy_from_slice(opened.protocol.as_bytes()),
        }),
        ..ok()
    }
}

/// The part for pubsub is there even when it is empty: the JavaScript client insists.
pub(super) fn topics(topics: &[Arc<[u8]>]) -> pb::Response {
    pb::Response {
        pubsub: Some(pb::PsResponse {
            topics: topics
                .iter()
                .map(|name| Bytes::copy_from_slice(name))
                .collect(),
            peer_i_ds: Vec::new(),
        }),
        ..ok()
    }
}

pub(super) fn topic_peers(peers: &[PeerId]) -> pb::Response {
    pb::Response {
        pubsub: Some(pb::PsResponse {
            topics: Vec::new(),
            peer_i_ds: peers.iter().map(|peer| peer.to_bytes().into()).collect(),
        }),
        ..ok()
    }
}

pub(super) fn peer_protocols(protocols: &[String]) -> pb::Response {
    pb::Response {
        peer_store: Some(pb::PeerstoreResponse {
            peer: None,
            protos: protocols.iter().cloned().map(Bytes::from).collect(),
        }),
        ..ok()
    }
}

pub(super) fn known_peer(peer: PeerId, addresses: &[Multiaddr]) -> pb::Response {
    pb::Response {
        peer_store: Some(pb::PeerstoreResponse {
            peer: Some(peer_info(peer, addresses)),
            protos: Vec::new(),
        }),
        ..ok()
    }
}

pub(super) fn dht(inner: pb::DhtResponse) -> pb::Response {
    pb::Response {
        dht: Some(inner),
        ..ok()
    }
}

pub(super) fn dht_begin() -> pb::DhtResponse {
    pb::DhtResponse {
        r#type: pb::dht_response::Type::Begin.into(),
        ..pb::DhtResponse::default()
    }
}

pub(super) fn dht_end() -> pb::DhtResponse {
    pb::DhtResponse {
        r#type: pb::dht_response::Type::End.into(),
        ..pb::DhtResponse::default()
    }
}

/// An empty value is on the wire as well: JavaScript clients insist on the field.
pub(super) fn dht_value(value: Vec<u8>) -> pb::DhtResponse {
    pb::DhtResponse {
        r#type: pb::dht_response::Type::Value.into(),
        peer: None,
        value: Some(value.into()),
    }
}

pub(super) fn dht_peer(peer: &PeerInfo) -> pb::DhtResponse {
    pb::DhtResponse {
        r#type: pb::dht_response::Type::Value.into(),
        peer: Some(peer_info(peer.id, &peer.addresses)),
        value: None,
    }
}

fn peer_info(peer: PeerId, addresses: &[Multiaddr]) -> pb::PeerInfo {
    pb::PeerInfo {
        id: peer.to_bytes().into(),
        addrs: bytes(addresses),
    }
}

fn bytes(addresses: &[Multiaddr]) -> Vec<Bytes> {
    addresses
        .iter()
        .map(|address| address.to_vec().into())
        .collect()
}
