//! The part of an address that names a socket: an IP address and a port of tcp or udp.

use std::net::IpAddr;

use libp2p::{Multiaddr, multiaddr::Protocol};

/// A socket's address, and what is spoken on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThinWaist {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) udp: bool,
    /// What follows the port.
    pub(super) over: Multiaddr,
}

impl ThinWaist {
    /// None if `address` begins with something else.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let (port, udp) = match parts.next()? {
            Protocol::Tcp(port) => (port, false),
            Protocol::Udp(port) => (port, true),
            _ => return None,
        };
        Some(Self {
            ip,
            port,
            udp,
            over: parts.collect(),
        })
    }

    /// The address that this was taken from.
    pub(super) fn address(&self) -> Multiaddr {
        let port = match self.udp {
            false => Protocol::Tcp(self.port),
            true => Protocol::Udp(self.port),
        };
        [Protocol::from(self.ip), port]
            .into_iter()
            .chain(&self.over)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_put_together() {
        for text in [
            "/ip4/1.2.3.4/tcp/5",
            "/ip4/1.2.3.4/tcp/5/ws",
            "/ip6/::1/udp/6/quic-v1",
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(ThinWaist::of(&address).unwrap().address(), address);
        }
        for text in ["/dns/a/tcp/1", "/ip4/1.2.3.4", "/p2p-circuit"] {
            assert_eq!(ThinWaist::of(&text.parse().unwrap()), None);
        }
    }
}
