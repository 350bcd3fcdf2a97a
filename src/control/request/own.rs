//! Requests that only rp2pd has (PROTOCOL.md).

use super::{HostRequest, Rejected, refuse};
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
