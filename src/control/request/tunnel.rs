//! TUNNEL requests (PROTOCOL.md 7).

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use ipnet::IpNet;

use super::{MISSING_PARAMETERS, Rejected, addresses, control_addr, missing, peer_id, refuse};
use crate::{
    control::tunnels::{Expose, Forward, MAX_TUNNELS, Shape},
    fixed_limits::fixed_limit,
    streams::ProtocolName,
    wire::pb::{self, tunnel_request::Type},
    wording::quote,
};

/// Peers, users or networks that a list of a tunnel may name.
const MAX_LISTED: usize = 256;
fixed_limit!("peers, users or networks in a list of a tunnel", MAX_LISTED);

/// Addresses at which the peer of a forward may be dialed beside those that are known.
const MAX_DIALED: usize = 64;

/// Connections of a tunnel at once, unless the client says otherwise.
const CONNECTIONS: u32 = 256;
fixed_limit!(
    "connections of one tunnel unless its client wants another number",
    CONNECTIONS
);

/// As many as it may say.
const MAX_CONNECTIONS: u32 = 4096;
fixed_limit!(
    "connections of one tunnel that a client may ask for",
    MAX_CONNECTIONS
);

/// What a client wants of tunnels.
#[derive(Debug)]
pub(in crate::control) enum Tunnelling {
    Forward(Box<Forward>, Shape),
    Expose(Box<Expose>, Shape),
    List,
    Close(Vec<u64>),
}

pub(super) fn parse(request: Option<Box<pb::TunnelRequest>>) -> Result<Tunnelling, Rejected> {
    let request = *request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let kind = request.r#type.ok_or_else(|| missing("tunnel.type"))?;
    let known = i32::try_from(kind).ok().map(Type::try_from);
    let Some(Ok(known)) = known else {
        return Err(refuse(format!("unknown tunnel type {kind}")));
    };
    Ok(match known {
        Type::Forward => {
            let shape = shape(&request)?;
            Tunnelling::Forward(Box::new(forward(request)?), shape)
        }
        Type::Expose => {
            let shape = shape(&request)?;
            Tunnelling::Expose(Box::new(expose(request)?), shape)
        }
        Type::List => Tunnelling::List,
        Type::Close => {
            bounded("ids", request.ids.len(), MAX_TUNNELS)?;
            Tunnelling::Close(request.ids)
        }
    })
}

fn shape(request: &pb::TunnelRequest) -> Result<Shape, Rejected> {
    let connections = match request.connections {
        None | Some(0) => CONNECTIONS,
        Some(count @ 1..=MAX_CONNECTIONS) => count,
        Some(count) => {
            let reason = format!("{count} connections: must be at most {MAX_CONNECTIONS}");
            return Err(refuse(reason));
        }
    };
    let keep = request.keep.unwrap_or_default();
    Ok(Shape { connections, keep })
}

fn forward(request: pb::TunnelRequest) -> Result<Forward, Rejected> {
    bounded("addrs", request.addrs.len(), MAX_DIALED)?;
    bounded("allowUids", request.allow_uids.len(), MAX_LISTED)?;
    bounded("allowNetworks", request.allow_networks.len(), MAX_LISTED)?;
    let networks = request.allow_networks.iter().map(|text| network(text));
    Ok(Forward {
        protocol: name(request.proto)?,
        listen: control_addr(Some(required(request.listen, "tunnel.listen")?))?,
        peer: peer_id(Some(required(request.peer, "tunnel.peer")?), "tunnel.peer")?,
        addresses: addresses(&request.addrs)?,
        uids: request.allow_uids,
        any_interface: request.any_interface.unwrap_or_default(),
        networks: networks.collect::<Result<_, _>>()?,
    })
}

fn expose(request: pb::TunnelRequest) -> Result<Expose, Rejected> {
    bounded("allow", request.allow.len(), MAX_LISTED)?;
    let any = request.any_peer.unwrap_or_default();
    let allow = match (any, request.allow.is_empty()) {
        (true, _) => None,
        (false, true) => {
            return Err(refuse(
                "allow names no peer: name those that may use it, or set anyPeer",
            ));
        }
        (false, false) => {
            let peers = request.allow.into_iter();
            let peers = peers.map(|peer| peer_id(Some(peer), "tunnel.allow"));
            Some(peers.collect::<Result<Arc<[_]>, _>>()?)
        }
    };
    Ok(Expose {
        protocol: name(request.proto)?,
        target: control_addr(Some(required(request.target, "tunnel.target")?))?,
        allow,
    })
}

/// What is missing here makes no message that cannot be read, so the connection stays.
fn required(bytes: Option<Bytes>, field: &str) -> Result<Bytes, Rejected> {
    bytes.ok_or_else(|| refuse(format!("Malformed request; missing {field}")))
}

fn name(bytes: Option<Bytes>) -> Result<ProtocolName, Rejected> {
    Ok(required(bytes, "tunnel.proto")?[..].into())
}

fn bounded(field: &str, len: usize, max: usize) -> Result<(), Rejected> {
    match len <= max {
        true => Ok(()),
        false => Err(refuse(format!("too many {field}: at most {max}"))),
    }
}

fn network(text: &str) -> Result<IpNet, Rejected> {
    let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
    let network = text.parse::<IpNet>().ok().or_else(address);
    network.ok_or_else(|| refuse(format!("{}: not a network", quote(text))))
}
