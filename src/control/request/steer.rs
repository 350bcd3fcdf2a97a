//! CONTROL requests (PROTOCOL.md 5).

use libp2p::{Multiaddr, PeerId};

use super::{MISSING_PARAMETERS, Rejected, addresses, missing, peer_id, refuse};
use crate::{
    node::PeerQuery,
    wire::pb::{self, control_request::Type},
};

/// Peers in one page, unless the client wants fewer.
const MAX_PAGE: u32 = 100;

/// Peers whose tags may be asked for by name.
const MAX_NAMED: usize = 100;

/// What a client wants to see or change.
#[derive(Debug)]
pub(in crate::control) enum Steer {
    Announced,
    Announce(Vec<Multiaddr>),
    Unannounce(Vec<Multiaddr>),
    Peers(Box<PeerQuery>),
    Tags(Vec<PeerId>),
}

pub(super) fn parse(request: Option<Box<pb::ControlRequest>>) -> Result<Steer, Rejected> {
    let request = *request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let kind = request.r#type.ok_or_else(|| missing("control.type"))?;
    let known = i32::try_from(kind).ok().map(Type::try_from);
    let Some(Ok(known)) = known else {
        return Err(refuse(format!("unknown control type {kind}")));
    };
    Ok(match known {
        Type::AnnounceList => Steer::Announced,
        Type::AnnounceAdd => Steer::Announce(addresses(&request.addrs)?),
        Type::AnnounceRemove => Steer::Unannounce(addresses(&request.addrs)?),
        Type::Peerstore => Steer::Peers(Box::new(query(request.query.unwrap_or_default())?)),
        Type::Tags if request.peers.len() > MAX_NAMED => {
            return Err(refuse(format!("too many peers: at most {MAX_NAMED}")));
        }
        Type::Tags => {
            let peers = request.peers.into_iter();
            let peers = peers.map(|peer| peer_id(Some(peer), "peers"));
            Steer::Tags(peers.collect::<Result<_, _>>()?)
        }
    })
}

fn query(query: pb::PeerQuery) -> Result<PeerQuery, Rejected> {
    let peer = |bytes: Option<bytes::Bytes>, field| {
        bytes.map(|bytes| peer_id(Some(bytes), field)).transpose()
    };
    let limit = match query.limit {
        None | Some(0) => MAX_PAGE,
        Some(limit) => limit.min(MAX_PAGE),
    };
    Ok(PeerQuery {
        peer: peer(query.peer, "query.peer")?,
        protocol: query.proto,
        agent: query.agent,
        connected: query.connected,
        after: peer(query.after, "query.after")?,
        limit: limit as usize,
    })
}
