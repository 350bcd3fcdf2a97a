//! Where this node can be reached through its relays.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::snapshot::Reservation;
use crate::node::{MAX_CIRCUITS, Node, address_filter::Scope, is_relayed, through};

/// The addresses of whoever is reached through `relay`, one for each public address or name of it,
/// as in go-libp2p. A trusted relay also has those that the operator has `named`, and is reached
/// where it is if none is public.
///
/// Empty if a relay that nobody trusts is itself behind another.
pub(super) fn of_relay(node: &Node, relay: &PeerId, named: Option<&[Multiaddr]>) -> Vec<Multiaddr> {
    let mut told = node.own_word(relay);
    if named.is_none() && told.iter().any(is_relayed) {
        return Vec::new();
    }
    for address in named.unwrap_or_default() {
        if is_public(address) && !told.contains(address) {
            told.push(address.clone());
        }
    }
    chosen(&told, named.is_some())
        .iter()
        .map(|address| through(address, *relay))
        .collect()
}

fn chosen(told: &[Multiaddr], trusted: bool) -> Vec<Multiaddr> {
    let direct = || told.iter().filter(|address| !is_relayed(address));
    let public: Vec<_> = direct()
        .filter(|address| is_public(address))
        .cloned()
        .collect();
    match public.is_empty() && trusted {
        true => direct().cloned().collect(),
        false => public,
    }
}

/// `/dnsaddr` is no place but a list of some.
fn is_public(address: &Multiaddr) -> bool {
    let named = matches!(
        address.iter().next(),
        Some(
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
        )
    );
    named && Scope::of_address(address) == Scope::Public && Scope::Public.admits(address)
}

/// The addresses to tell: relay by relay, each with an equal share of the places.
pub(super) fn circuits(reservations: &[Reservation]) -> Vec<Multiaddr> {
    let share = (MAX_CIRCUITS / reservations.len().max(1)).max(1);
    let shares = reservations
        .iter()
        .flat_map(|held| held.addresses.iter().take(share));
    shares.take(MAX_CIRCUITS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::relay::autorelay::Allowance;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn public_addresses_and_names_are_told_as_in_go() {
        let relay = PeerId::random();
        let circuit = through(&"/ip4/60.0.9.1/tcp/1".parse().unwrap(), relay);
        let mut told = addresses(&[
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/192.168.1.2/tcp/4001",
            "/ip4/60.0.1.1/tcp/4001",
            "/ip4/60.0.1.1/udp/4001/quic-v1",
            "/dns4/relay.example.org/tcp/4001",
            "/dns4/localhost/tcp/4001",
            "/ip4/192.0.2.1/tcp/4001",
        ]);
        told.push(circuit);
        for trusted in [false, true] {
            assert_eq!(chosen(&told, trusted), told[2..5]);
        }
        // Nobody else can be reached through it.
        assert_eq!(chosen(&told[..2], false), []);
        assert_eq!(chosen(&told[..2], true), told[..2]);
    }

    #[test]
    fn relays_share_the_places() {
        let held = |relays: usize, each: usize| -> Vec<Reservation> {
            let one = |_| Reservation {
                relay: PeerId::random(),
                trusted: true,
                expires: Instant::now(),
                allowance: Allowance {
                    data: 0,
                    time: Duration::ZERO,
                },
                addresses: (1..=each)
                    .map(|port| format!("/ip4/60.0.1.1/tcp/{port}").parse().unwrap())
                    .collect(),
            };
            (0..relays).map(one).collect()
        };
        for (relays, each, told) in [(0, 9, 0), (1, 64, 8), (2, 64, 8), (2, 2, 4), (20, 3, 8)] {
            let held = held(relays, each);
            assert_eq!(circuits(&held).len(), told, "{relays} relays");
        }
        let two = held(2, 64);
        assert_eq!(circuits(&two)[..4], two[0].addresses[..4]);
        assert_eq!(circuits(&two)[4..], two[1].addresses[..4]);
    }
}
