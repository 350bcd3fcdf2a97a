//! Answers to CONTROL (PROTOCOL.md 5).

use std::time::Duration;

use libp2p::Multiaddr;

use super::{Bytes, bytes, ok};
use crate::{
    node::{KnownAddress, PeerRecord, PeerTags},
    wire::pb,
};

fn answer(control: pb::ControlResponse) -> pb::Response {
    pb::Response {
        control: Some(Box::new(control)),
        ..ok()
    }
}

pub(in crate::control) fn announced(addresses: &[Multiaddr]) -> pb::Response {
    answer(pb::ControlResponse {
        addrs: bytes(addresses),
        ..pb::ControlResponse::default()
    })
}

pub(in crate::control) fn tags(peers: Vec<PeerTags>) -> pb::Response {
    let tags = peers.into_iter().map(|(peer, tags)| pb::PeerTags {
        peer: peer.to_bytes().into(),
        tags: tags
            .into_iter()
            .map(|(name, weight)| pb::Tag {
                name: name.into_vec().into(),
                weight,
            })
            .collect(),
    });
    answer(pb::ControlResponse {
        tags: tags.collect(),
        ..pb::ControlResponse::default()
    })
}

/// One page, and whether there are `more`.
pub(in crate::control) fn peer_records(records: &[PeerRecord], more: bool) -> pb::Response {
    let last = records.last().filter(|_| more);
    answer(pb::ControlResponse {
        next: last.map(|record| record.peer.to_bytes().into()),
        peers: records.iter().map(peer_record).collect(),
        ..pb::ControlResponse::default()
    })
}

fn peer_record(record: &PeerRecord) -> pb::PeerRecord {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    pb::PeerRecord {
        peer: record.peer.to_bytes().into(),
        connected: record.connected,
        agent: record.agent.as_deref().map(text),
        protos: record.protocols.iter().map(|name| text(name)).collect(),
        addrs: record.addresses.iter().map(known_address).collect(),
    }
}

fn known_address(known: &KnownAddress) -> pb::KnownAddress {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    pb::KnownAddress {
        addr: known.address.to_vec().into(),
        age: millis(known.age),
        expires: known.expires.map_or(0, millis),
        proven: known.proven,
    }
}
