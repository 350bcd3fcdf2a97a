//! Answers to CONTROL (PROTOCOL.md 5).

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use super::{Bytes, bytes, ok};
use crate::{
    node::{
        KnownAddress, ListenerInfo, PeerRecord, PeerTags,
        rules::{Action, Rule, Subject},
    },
    streams::{LimitSubject, Moved, ProtocolName, TrafficLimit},
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

pub(in crate::control) fn listeners(listeners: &[ListenerInfo]) -> pb::Response {
    let listener = |one: &ListenerInfo| pb::ListenerInfo {
        addr: one.asked.to_vec().into(),
        bound: bytes(&one.bound),
    };
    answer(pb::ControlResponse {
        listeners: listeners.iter().map(listener).collect(),
        ..pb::ControlResponse::default()
    })
}

pub(in crate::control) fn rules(rules: &[Rule]) -> pb::Response {
    let rule = |rule: &Rule| {
        let action = match rule.action {
            Action::Block => pb::rule::Action::Block,
            Action::Allow => pb::rule::Action::Allow,
        };
        let mut told = pb::Rule {
            action: Some(action.into()),
            ..pb::Rule::default()
        };
        match rule.subject {
            Subject::Peer(peer) => told.peer = Some(peer.to_bytes().into()),
            Subject::Network(network) => told.network = Some(network.to_string().into()),
            Subject::EveryPeer => told.every_peer = Some(true),
        }
        told
    };
    answer(pb::ControlResponse {
        rules: rules.iter().map(rule).collect(),
        ..pb::ControlResponse::default()
    })
}

pub(in crate::control) fn limits(limits: &[(LimitSubject, TrafficLimit)]) -> pb::Response {
    let set = |value: u64| (value > 0).then_some(value);
    let count = |value: usize| (value > 0).then(|| clamped(value));
    let limit = |(subject, limit): &(LimitSubject, TrafficLimit)| pb::TrafficLimit {
        peer: subject.peer.map(|peer| peer.to_bytes().into()),
        proto: subject.protocol.as_ref().map(name),
        receive: set(limit.receive),
        send: set(limit.send),
        connections: count(limit.connections),
        streams: count(limit.streams),
    };
    answer(pb::ControlResponse {
        limits: limits.iter().map(limit).collect(),
        ..pb::ControlResponse::default()
    })
}

/// Of peers, each with the number of its connections, and of protocols.
pub(in crate::control) fn traffic(
    peers: &[(PeerId, usize, Moved)],
    protocols: &[(ProtocolName, Moved)],
) -> pb::Response {
    let info = |moved: &Moved| pb::TrafficInfo {
        received: moved.received,
        sent: moved.sent,
        streams: clamped(moved.streams),
        waited: moved.waited,
        ..pb::TrafficInfo::default()
    };
    let peers = peers
        .iter()
        .map(|(peer, connections, moved)| pb::TrafficInfo {
            peer: Some(peer.to_bytes().into()),
            connections: clamped(*connections),
            ..info(moved)
        });
    let protocols = protocols.iter().map(|(protocol, moved)| pb::TrafficInfo {
        proto: Some(name(protocol)),
        ..info(moved)
    });
    answer(pb::ControlResponse {
        traffic: peers.chain(protocols).collect(),
        ..pb::ControlResponse::default()
    })
}

fn name(name: &ProtocolName) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn clamped(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
