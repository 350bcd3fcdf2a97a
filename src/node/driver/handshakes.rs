//! Inbound connections that came to nothing, as the log tells of them.

use std::{error::Error, io, iter};

use libp2p::{Multiaddr, TransportError, multiaddr::Protocol, swarm::ListenError};

use crate::{
    node::{peer_address::is_relayed, security::Insecure},
    telemetry::canonical::{PeerStatus, peer_status},
};

/// Longest chain of causes that is followed: one that refers to itself must not hang the driver.
const MAX_CAUSES: usize = 32;

/// Tells of a handshake that has failed, if it is known who did it: the first packet of quic may
/// name anybody's address, and that of a circuit is the relay's.
pub(super) fn failed(remote: &Multiaddr, error: &ListenError) {
    let is_proven = !remote.iter().any(|part| matches!(part, Protocol::Udp(_)));
    let ListenError::Transport(TransportError::Other(error)) = error else {
        return;
    };
    if is_proven && !is_relayed(remote) {
        let (protocol, error) = cause(error);
        let status = PeerStatus::HandshakeFailed {
            protocol,
            error: &error,
        };
        peer_status(None, remote, status);
    }
}

/// The protocol that failed, and the innermost reason.
fn cause(error: &io::Error) -> (&'static str, String) {
    let mut protocol = "multistream";
    let mut reason = error.to_string();
    let first: &(dyn Error + 'static) = error;
    for link in iter::successors(Some(first), |link| inner(*link)).take(MAX_CAUSES) {
        if let Some(insecure) = link.downcast_ref::<Insecure>() {
            protocol = insecure.protocol();
        }
        reason = link.to_string();
    }
    (protocol, reason)
}

/// What an error wraps. The standard library's hides the first error that it wraps.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as _),
        None => error.source(),
    }
}
