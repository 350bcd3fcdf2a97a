//! Events as clients read them (PROTOCOL.md 2).

use libp2p::PeerId;

use super::{Bytes, bytes, ok};
use crate::{
    events::{CloseReason, Connection, Entry, Event, Followed, Reachability},
    wire::pb::{self, event::Kind},
};

/// The answer for what a client that follows is told.
pub(in crate::control) fn followed(followed: &Followed) -> pb::Response {
    let event = match followed {
        Followed::Event(entry) => told(entry),
        Followed::Present(entry) => pb::Event {
            present: Some(true),
            ..told(entry)
        },
        Followed::Missed { count, time } => missed(*count, *time),
    };
    pb::Response {
        event: Some(Box::new(event)),
        ..ok()
    }
}

fn missed(count: u64, time: u64) -> pb::Event {
    pb::Event {
        count: Some(count),
        ..new(Kind::Missed, time)
    }
}

fn new(kind: Kind, time: u64) -> pb::Event {
    pb::Event {
        kind: kind.into(),
        time,
        ..pb::Event::default()
    }
}

fn told(entry: &Entry) -> pb::Event {
    let new = |kind| new(kind, entry.time);
    match &entry.event {
        Event::PeerConnected {
            peer,
            connection,
            connections,
        } => of_connection(new(Kind::PeerConnected), peer, connection, *connections),
        Event::PeerDisconnected {
            peer,
            connection,
            connections,
            cause,
        } => {
            let event = new(Kind::PeerDisconnected);
            let event = of_connection(event, peer, connection, *connections);
            with_cause(event, cause)
        }
        Event::PeerIdentified {
            peer,
            agent,
            protocols,
            addresses,
        } => pb::Event {
            peer: Some(peer.to_bytes().into()),
            agent: agent.as_deref().map(text),
            protos: protocols.iter().map(|name| text(name)).collect(),
            addrs: bytes(addresses),
            ..new(Kind::PeerIdentified)
        },
        Event::Addresses(addresses) => pb::Event {
            addrs: bytes(addresses),
            ..new(Kind::Addresses)
        },
        Event::Reachability(reachability) => pb::Event {
            reachability: Some(of_reachability(*reachability).into()),
            ..new(Kind::Reachability)
        },
        Event::HandlerFailed {
            peer,
            protocol,
            handler,
            reason,
        } => pb::Event {
            peer: Some(peer.to_bytes().into()),
            proto: Some(protocol.clone()),
            addrs: vec![handler.to_bytes().into()],
            reason: Some(reason.clone()),
            ..new(Kind::HandlerFailed)
        },
        Event::TunnelFailed {
            peer,
            protocol,
            addr,
            reason,
        } => pb::Event {
            peer: Some(peer.to_bytes().into()),
            proto: Some(protocol.clone()),
            addrs: vec![addr.to_bytes().into()],
            reason: Some(reason.clone()),
            ..new(Kind::TunnelFailed)
        },
        Event::TopicJoined { peer, topic } => of_topic(new(Kind::TopicJoined), *peer, topic),
        Event::TopicLeft { peer, topic } => of_topic(new(Kind::TopicLeft), *peer, topic),
        Event::Limit { limit, count } => pb::Event {
            limit: Some(limit.clone()),
            count: Some(*count),
            ..new(Kind::Limit)
        },
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn of_connection(
    event: pb::Event,
    peer: &PeerId,
    connection: &Connection,
    connections: usize,
) -> pb::Event {
    pb::Event {
        peer: Some(peer.to_bytes().into()),
        connection: Some(pb::ConnectionInfo {
            id: connection.id,
            addr: connection.remote.to_vec().into(),
            dialed: connection.dialed,
            relayed: connection.relayed,
        }),
        connections: Some(u32::try_from(connections).unwrap_or(u32::MAX)),
        ..event
    }
}

fn with_cause(event: pb::Event, cause: &CloseReason) -> pb::Event {
    let (cause, reason) = match cause {
        CloseReason::Local => (pb::event::Cause::Local, None),
        CloseReason::Remote => (pb::event::Cause::Remote, None),
        CloseReason::Timeout => (pb::event::Cause::Timeout, None),
        CloseReason::Broken(reason) => (pb::event::Cause::Broken, Some(reason.clone())),
    };
    pb::Event {
        cause: Some(cause.into()),
        reason,
        ..event
    }
}

fn of_reachability(reachability: Reachability) -> pb::event::Reachability {
    match reachability {
        Reachability::Undecided => pb::event::Reachability::Undecided,
        Reachability::Public => pb::event::Reachability::Public,
        Reachability::Private => pb::event::Reachability::Private,
    }
}

fn of_topic(event: pb::Event, peer: Option<PeerId>, topic: &[u8]) -> pb::Event {
    pb::Event {
        peer: peer.map(|peer| peer.to_bytes().into()),
        topic: Some(Bytes::copy_from_slice(topic)),
        ..event
    }
}
