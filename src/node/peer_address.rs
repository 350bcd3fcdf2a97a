//! Peer ids in addresses, and peers that are not who they were dialed as.

use std::{error::Error, fmt};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// The answering peer is not the one that was dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdMismatch {
    /// Who was dialed.
    pub expected: PeerId,
    /// Whose key answered.
    pub actual: PeerId,
}

impl fmt::Display for PeerIdMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "peer id mismatch: expected {}, but remote key matches {}",
            self.expected, self.actual
        )
    }
}

impl Error for PeerIdMismatch {}

/// `address` without a trailing `/p2p/<peer>`.
pub(super) fn strip_peer(mut address: Multiaddr, peer: PeerId) -> Multiaddr {
    if address.iter().last() == Some(Protocol::P2p(peer)) {
        address.pop();
    }
    address
}
