//! Peers that break the rules of a protocol, as the log tells of them.

use libp2p::PeerId;

use super::Node;
use crate::{streams::Peers, telemetry::canonical};

impl Node {
    /// Tells the log that `peer` breaks the rules of `component`, with the address of its direct
    /// connection. `error` may hold its text.
    pub(crate) fn misbehaves(&self, peer: &PeerId, component: &str, error: &str) {
        misbehaves(&self.streams().peers, peer, component, error);
    }
}

pub(super) fn misbehaves(peers: &Peers, peer: &PeerId, component: &str, error: &str) {
    let address = || {
        let connection = peers.get(peer)?.direct_connection()?;
        Some(connection.remote.clone())
    };
    let message = "breaks the rules of the protocol";
    canonical::misbehaving_peer(peer, address, component, error, message);
}
