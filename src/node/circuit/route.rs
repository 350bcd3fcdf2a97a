//! Where an address with a relay leads.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::node::dial::CircuitError;

/// Where an address with a relay leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) relay: PeerId,
    /// The address of the relay, if the address has one.
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) destination: Option<PeerId>,
}

impl Route {
    pub(super) fn parse(address: &Multiaddr) -> Result<Self, CircuitError> {
        let mut parts = address.iter();
        let mut relay: Multiaddr = parts
            .by_ref()
            .take_while(|part| *part != Protocol::P2pCircuit)
            .collect();
        let rest: Vec<_> = parts.collect();
        if relay.is_empty() {
            return Err(CircuitError::NoRelay);
        }
        let Some(Protocol::P2p(id)) = relay.iter().last() else {
            return Err(CircuitError::NoRelayId(relay));
        };
        relay.pop();
        if rest.contains(&Protocol::P2pCircuit) {
            return Err(CircuitError::Loop);
        }
        let destination = match rest.last() {
            Some(Protocol::P2p(destination)) => Some(*destination),
            _ => None,
        };
        if destination == Some(id) {
            return Err(CircuitError::Loop);
        }
        Ok(Self {
            relay: id,
            addresses: (!relay.is_empty()).then_some(relay).into_iter().collect(),
            destination,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    const OTHER: &str = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

    fn parse(text: &str) -> Result<Route, CircuitError> {
        let text = text.replace("RELAY", RELAY).replace("OTHER", OTHER);
        Route::parse(&text.parse().expect("a multiaddr"))
    }

    #[test]
    fn an_address_names_the_relay_and_the_destination() {
        let route = parse("/ip4/1.2.3.4/tcp/1/p2p/RELAY/p2p-circuit/p2p/OTHER").expect("a route");
        assert_eq!(route.relay.to_string(), RELAY);
        assert_eq!(route.addresses, ["/ip4/1.2.3.4/tcp/1".parse().unwrap()]);
        assert_eq!(
            route.destination.map(|id| id.to_string()),
            Some(OTHER.into())
        );
        let route = parse("/p2p/RELAY/p2p-circuit").expect("a route");
        assert_eq!((route.addresses, route.destination), (Vec::new(), None));
    }

    #[test]
    fn addresses_without_a_way_are_refused() {
        for text in ["/p2p-circuit", "/p2p-circuit/p2p/OTHER"] {
            assert_eq!(parse(text), Err(CircuitError::NoRelay), "{text}");
        }
        let nameless = parse("/ip4/1.2.3.4/tcp/1/p2p-circuit/p2p/OTHER");
        let relay = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
        assert_eq!(nameless, Err(CircuitError::NoRelayId(relay)));
        for text in [
            "/ip4/1.2.3.4/tcp/1/p2p/RELAY/p2p-circuit/p2p/RELAY",
            "/p2p/RELAY/p2p-circuit/p2p/OTHER/p2p-circuit/p2p/OTHER",
        ] {
            assert_eq!(parse(text), Err(CircuitError::Loop), "{text}");
        }
    }
}
