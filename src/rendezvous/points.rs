//! Where to meet others.

use libp2p::Multiaddr;

/// Where this node registers, and under which names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Points {
    /// Addresses of rendezvous points, each ending in `/p2p/<id>`.
    pub points: Vec<Multiaddr>,
    /// Names of 1 to 255 bytes.
    pub namespaces: Vec<String>,
}
