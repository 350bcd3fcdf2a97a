//! Requests that only rp2pd has (PROTOCOL.md).

use std::time::Duration;

use super::{HostRequest, Rejected, addresses, peer_id, refuse};
use crate::{
    events::{Kind, Kinds},
    wire::pb::{self, event},
};

/// What a client wants to follow. Without parameters it is everything.
pub(super) fn events(request: Option<pb::EventsRequest>) -> Result<HostRequest, Rejected> {
    let request = request.unwrap_or_default();
    let mut kinds = Kinds::default();
    for number in &request.kinds {
        let kind = event::Kind::try_from(*number)
            .map_err(|_| refuse(format!("unknown event kind {number}")))?;
        if let Some(kind) = own_kind(kind) {
            kinds = kinds.with(kind);
        }
    }
    Ok(HostRequest::Events {
        kinds: match request.kinds.is_empty() {
            true => Kinds::ALL,
            false => kinds,
        },
        present: request.present.unwrap_or_default(),
    })
}

/// Time for a probe, unless the client says otherwise.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for a probe.
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Which addresses of which peer a client wants to be dialed.
pub(super) fn probe(request: Option<pb::ProbeRequest>) -> Result<HostRequest, Rejected> {
    let request = request.unwrap_or_default();
    let peer = request.peer.map(|peer| peer_id(Some(peer), "peer"));
    Ok(HostRequest::Probe {
        peer: peer.transpose()?,
        addresses: addresses(&request.addrs)?,
        timeout: match request.timeout.unwrap_or_default() {
            0 => PROBE_TIMEOUT,
            millis => Duration::from_millis(millis).min(MAX_PROBE_TIMEOUT),
        },
    })
}

/// `None` for what comes whether it is asked for or not.
fn own_kind(kind: event::Kind) -> Option<Kind> {
    Some(match kind {
        event::Kind::Missed => return None,
        event::Kind::PeerConnected => Kind::PeerConnected,
        event::Kind::PeerIdentified => Kind::PeerIdentified,
        event::Kind::PeerDisconnected => Kind::PeerDisconnected,
        event::Kind::Addresses => Kind::Addresses,
        event::Kind::Reachability => Kind::Reachability,
        event::Kind::HandlerFailed => Kind::HandlerFailed,
        event::Kind::TopicJoined => Kind::TopicJoined,
        event::Kind::TopicLeft => Kind::TopicLeft,
        event::Kind::Limit => Kind::Limit,
    })
}
