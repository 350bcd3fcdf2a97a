//! Why an address is not listened on.

use libp2p::Multiaddr;

use crate::fixed_limits::fixed_limit;

/// Addresses that may be listened on (SECURITY.md 3); those of the start are not counted beforehand.
pub(crate) const MAX_LISTENERS: usize = 64;
fixed_limit!("addresses that clients have listened on", MAX_LISTENERS);

/// Why an address is not listened on, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {reason}")]
pub struct ListenError {
    /// As configured.
    pub address: Multiaddr,
    pub(super) reason: String,
}

impl ListenError {
    pub(in super::super) fn closed(address: Multiaddr, reason: Option<&std::io::Error>) -> Self {
        let reason = reason.map_or_else(|| "closed".to_owned(), super::innermost);
        Self { address, reason }
    }
}

/// Why listeners are not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// One address cannot be listened on; none is.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There would be more than may be.
    #[error("too many listeners: at most {MAX_LISTENERS}")]
    TooMany,
    /// There is none to remove; none is removed.
    #[error("address {0} is not listened on")]
    Unknown(Multiaddr),
    /// The daemon is stopping.
    #[error("daemon is shutting down")]
    Stopping,
}
