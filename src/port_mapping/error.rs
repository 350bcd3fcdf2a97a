//! What keeps a router from mapping a port.

use std::{io, net::Ipv4Addr};

/// Why no port is mapped.
#[derive(Debug, thiserror::Error)]
pub(super) enum MappingError {
    /// Nothing is listened on that a router could forward to.
    #[error("nothing to map")]
    NothingToMap,
    /// There is no default route of IPv4.
    #[error("no default gateway")]
    NoGateway,
    /// The router does not answer.
    #[error("no answer")]
    NoAnswer,
    /// It cannot be asked.
    #[error("failed to ask the gateway")]
    Io(#[from] io::Error),
    /// It answers something else.
    #[error("the gateway's answer is not understood")]
    Malformed,
    /// It does not want to; its reason.
    #[error("refused by the gateway: error {0}")]
    Refused(u16),
    /// It is behind another NAT.
    #[error("the gateway's address {0} is not public")]
    NotPublic(Ipv4Addr),
}
