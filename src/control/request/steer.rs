//! CONTROL requests (PROTOCOL.md 5).

use std::net::IpAddr;

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId};

use super::{MISSING_PARAMETERS, Rejected, addresses, missing, names, peer_id, refuse};
use crate::{
    node::{
        PeerQuery,
        rules::{Action, Rule, Subject},
    },
    streams::{LimitSubject, MAX_NAME, ProtocolName, TrafficLimit},
    wire::pb::{self, control_request::Type},
};

/// Peers in one page, unless the client wants fewer.
const MAX_PAGE: u32 = 100;

/// Peers and protocols that may be asked for by name.
const MAX_NAMED: usize = 100;

/// Characters of what is no network that are shown.
const MAX_SHOWN: usize = 64;

/// What a client wants to see or change.
#[derive(Debug)]
pub(in crate::control) enum Steer {
    Announced,
    Announce(Vec<Multiaddr>),
    Unannounce(Vec<Multiaddr>),
    Peers(Box<PeerQuery>),
    Tags(Vec<PeerId>),
    Listeners,
    Listen(Vec<Multiaddr>),
    Unlisten(Vec<Multiaddr>),
    Rules,
    AddRules(Vec<Rule>),
    RemoveRules(Vec<Subject>),
    Limits,
    Limit(Vec<(LimitSubject, TrafficLimit)>),
    Unlimit(Vec<LimitSubject>),
    Traffic(Vec<PeerId>, Vec<ProtocolName>),
}

impl Steer {
    /// Whether the answer may take longer than the answers before it should wait.
    pub(in crate::control) fn waits(&self) -> bool {
        matches!(
            self,
            Self::Listen(_) | Self::Unlisten(_) | Self::AddRules(_) | Self::RemoveRules(_)
        )
    }
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
        Type::Tags => Steer::Tags(peers(request.peers)?),
        Type::ListenList => Steer::Listeners,
        Type::ListenAdd => Steer::Listen(addresses(&request.addrs)?),
        Type::ListenRemove => Steer::Unlisten(addresses(&request.addrs)?),
        Type::RulesList => Steer::Rules,
        Type::RulesAdd => {
            let rules = request.rules.into_iter().map(rule);
            Steer::AddRules(rules.collect::<Result<_, _>>()?)
        }
        Type::RulesRemove => {
            let rules = request.rules.into_iter();
            let subjects = rules.map(|one| rule(one).map(|rule| rule.subject));
            Steer::RemoveRules(subjects.collect::<Result<_, _>>()?)
        }
        Type::LimitsList => Steer::Limits,
        Type::LimitsSet => {
            let limits = request.limits.into_iter().map(limit);
            Steer::Limit(limits.collect::<Result<_, _>>()?)
        }
        Type::LimitsRemove => {
            let limits = request.limits.into_iter();
            let subjects = limits.map(|one| limit(one).map(|(subject, _)| subject));
            Steer::Unlimit(subjects.collect::<Result<_, _>>()?)
        }
        Type::Traffic if request.protos.len() > MAX_NAMED => {
            return Err(refuse(format!("too many protocols: at most {MAX_NAMED}")));
        }
        Type::Traffic => Steer::Traffic(peers(request.peers)?, names(&request.protos)),
    })
}

fn peers(peers: Vec<bytes::Bytes>) -> Result<Vec<PeerId>, Rejected> {
    if peers.len() > MAX_NAMED {
        return Err(refuse(format!("too many peers: at most {MAX_NAMED}")));
    }
    let peers = peers.into_iter();
    peers.map(|peer| peer_id(Some(peer), "peers")).collect()
}

fn rule(rule: pb::Rule) -> Result<Rule, Rejected> {
    let action = match rule.action.map(pb::rule::Action::try_from) {
        None | Some(Ok(pb::rule::Action::Block)) => Action::Block,
        Some(Ok(pb::rule::Action::Allow)) => Action::Allow,
        Some(Err(_)) => return Err(refuse("unknown action of a rule")),
    };
    let every_peer = rule.every_peer.unwrap_or_default();
    let subject = match (rule.peer, rule.network, every_peer) {
        (Some(peer), None, false) => Subject::Peer(peer_id(Some(peer), "rules.peer")?),
        (None, Some(text), false) => Subject::Network(network(&text)?),
        (None, None, true) => Subject::EveryPeer,
        _ => return Err(refuse("a rule names one of peer, network and everyPeer")),
    };
    Ok(Rule { subject, action })
}

/// A network, or an address as a network of its own.
fn network(text: &[u8]) -> Result<IpNet, Rejected> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(address)
    });
    parsed.ok_or_else(|| {
        let shown = String::from_utf8_lossy(text);
        let shown: String = shown.chars().take(MAX_SHOWN).collect();
        refuse(format!(
            "invalid network {shown:?}: an address, or one with a prefix length"
        ))
    })
}

fn limit(limit: pb::TrafficLimit) -> Result<(LimitSubject, TrafficLimit), Rejected> {
    let name = limit.proto.as_ref().map_or(1, bytes::Bytes::len);
    if name == 0 || name > MAX_NAME {
        let reason = format!("protocol name of {name} bytes: must be 1 to {MAX_NAME} bytes long");
        return Err(refuse(reason));
    }
    let peer = limit.peer.map(|peer| peer_id(Some(peer), "limits.peer"));
    let subject = LimitSubject {
        peer: peer.transpose()?,
        protocol: limit.proto.map(|name| name[..].into()),
    };
    let limit = TrafficLimit {
        receive: limit.receive.unwrap_or_default(),
        send: limit.send.unwrap_or_default(),
        connections: limit.connections.unwrap_or_default() as usize,
        streams: limit.streams.unwrap_or_default() as usize,
    };
    Ok((subject, limit))
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
