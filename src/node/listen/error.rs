//! Why an address is not listened on.

use libp2p::Multiaddr;

/// Why an address is not listened on, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {reason}")]
pub struct ListenError {
    /// As configured.
    pub address: Multiaddr,
    pub(super) reason: String,
}
