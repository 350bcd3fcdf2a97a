//! Peer ids in addresses, and peers that are not who they were dialed as.

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, multiaddr::Protocol};

/// The answering peer is not the one that was dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("peer id mismatch: expected {expected}, but remote key matches {actual}")]
pub struct PeerIdMismatch {
    /// Who was dialed.
    pub expected: PeerId,
    /// Whose key answered.
    pub actual: PeerId,
}

/// `address` without a trailing `/p2p/<peer>`.
pub(super) fn strip_peer(mut address: Multiaddr, peer: PeerId) -> Multiaddr {
    if address.iter().last() == Some(Protocol::P2p(peer)) {
        address.pop();
    }
    address
}

/// The remote's address on a connection to `peer`, without `/p2p/<peer>`. Never empty.
///
/// An inbound circuit may name the peer alone as its remote address. Then it is the circuit on
/// which the peer came, as go-libp2p has it.
pub(super) fn remote_address(endpoint: &ConnectedPoint, peer: PeerId) -> Multiaddr {
    let address = strip_peer(endpoint.get_remote_address().clone(), peer);
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if address.is_empty() => {
            let mut circuit = Multiaddr::empty();
            for part in local_addr {
                let is_end = part == Protocol::P2pCircuit;
                circuit.push(part);
                if is_end {
                    break;
                }
            }
            circuit
        }
        _ => address,
    }
}

/// Whether the way to `address` leads through a relay.
#[must_use]
pub fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The address of whoever is reached through `relay` at `address`.
#[must_use]
pub fn through(address: &Multiaddr, relay: PeerId) -> Multiaddr {
    let address = address.clone().with(Protocol::P2p(relay));
    address.with(Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_connection_has_an_empty_address() {
        let (peer, relay, us) = (PeerId::random(), PeerId::random(), PeerId::random());
        let inbound = |local: String, remote: String| ConnectedPoint::Listener {
            local_addr: local.parse().expect("a multiaddr"),
            send_back_addr: remote.parse().expect("a multiaddr"),
        };
        let address = |local, remote| remote_address(&inbound(local, remote), peer).to_string();
        let circuit = format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}/p2p-circuit");
        let direct = "/ip4/5.6.7.8/tcp/9";
        for local in [circuit.clone(), format!("{circuit}/p2p/{us}")] {
            assert_eq!(address(local, format!("/p2p/{peer}")), circuit);
        }
        // An address that says more stays.
        let named = format!("{circuit}/p2p/{peer}");
        assert_eq!(address(circuit.clone(), named), circuit);
        let local = "/ip4/0.0.0.0/tcp/1".to_owned();
        assert_eq!(address(local, format!("{direct}/p2p/{peer}")), direct);
    }
}
