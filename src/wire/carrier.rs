//! What an address says of the connection that it leads to.

use libp2p::{Multiaddr, multiaddr::Protocol};

/// What carries a connection to `remote`: `p2p-circuit`, `quic-v1`, `ws`, `wss` or `tcp`.
#[must_use]
pub fn transport_name(remote: &Multiaddr) -> &'static str {
    let mut name = "tcp";
    let mut is_tls = false;
    for part in remote {
        match part {
            Protocol::P2pCircuit => return "p2p-circuit",
            Protocol::QuicV1 | Protocol::Quic => name = "quic-v1",
            Protocol::Tls => is_tls = true,
            Protocol::Wss(_) => name = "wss",
            Protocol::Ws(_) => name = if is_tls { "wss" } else { "ws" },
            _ => {}
        }
    }
    name
}

/// `ip4`, `ip6` or, of a name, `unknown`.
#[must_use]
pub fn ip_version(address: &Multiaddr) -> &'static str {
    match address.iter().next() {
        Some(Protocol::Ip4(_)) => "ip4",
        Some(Protocol::Ip6(_)) => "ip6",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn transports_are_read_from_the_address() {
        let relay = PeerId::random();
        let circuit = format!("/ip4/1.2.3.4/udp/1/quic-v1/p2p/{relay}/p2p-circuit");
        for (text, transport, ip) in [
            ("/ip4/1.2.3.4/tcp/1", "tcp", "ip4"),
            ("/dns4/a.b/tcp/1/ws", "ws", "unknown"),
            ("/dns4/a.b/tcp/1/wss", "wss", "unknown"),
            ("/ip4/1.2.3.4/tcp/1/tls/ws", "wss", "ip4"),
            ("/ip6/::1/udp/1/quic-v1", "quic-v1", "ip6"),
            (&circuit, "p2p-circuit", "ip4"),
        ] {
            let address = text.parse().unwrap();
            assert_eq!(transport_name(&address), transport, "{text}");
            assert_eq!(ip_version(&address), ip, "{text}");
        }
    }
}
