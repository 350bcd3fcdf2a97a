//! Answers to TUNNEL (PROTOCOL.md 7).

use super::{Bytes, ok};
use crate::{
    control::tunnels::{Info, Kind},
    wire::pb::{self, tunnel_request::Type},
};

pub(in crate::control) fn tunnels(tunnels: &[Info]) -> pb::Response {
    pb::Response {
        tunnel: Some(Box::new(pb::TunnelResponse {
            tunnels: tunnels.iter().map(tunnel).collect(),
        })),
        ..ok()
    }
}

fn tunnel(info: &Info) -> pb::TunnelInfo {
    let (kind, peer, allow) = match &info.kind {
        Kind::Forward { peer } => (Type::Forward, Some(peer.to_bytes().into()), Vec::new()),
        Kind::Expose { allow } => {
            let allow = allow.iter().flat_map(|peers| peers.iter());
            let allow = allow.map(|peer| peer.to_bytes().into());
            (Type::Expose, None, allow.collect())
        }
    };
    pb::TunnelInfo {
        id: info.id,
        r#type: kind.into(),
        proto: Bytes::copy_from_slice(info.protocol.as_bytes()),
        addr: info.addr.to_bytes().into(),
        peer,
        allow,
        open: u32::try_from(info.total.open).unwrap_or(u32::MAX),
        total: info.total.total,
        failed: info.total.failed,
        received: info.total.received,
        sent: info.total.sent,
        keep: info.shape.keep,
        connections: info.shape.connections,
        error: info.error.clone(),
    }
}
