//! Direct connections to peers that are reached by circuits.

use libp2p::{Multiaddr, PeerId};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Node,
    address_filter::Scope,
    dial::{DialError, Manner, Origin, Punch, Race},
    driver::Command,
    peer_address::is_relayed,
    thin_waist::ThinWaist,
};

impl Node {
    /// A connection to `peer` that does not run through a relay: one that is there, or one at an
    /// address that is known.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect_without_relay(
        &self,
        peer: PeerId,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let reached = self.reach_directly(peer, Vec::new(), Origin::Hearsay, deadline);
        reached.await.map(drop)
    }

    /// Dials all of `addresses` at once, although `peer` is connected. The remote address of the
    /// first connection; none if all have failed.
    ///
    /// # Cancel safety
    /// Dropping the future ends the dials.
    pub async fn punch(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        manner: Manner,
    ) -> Option<Multiaddr> {
        let race = Race::default();
        let _waiting = race.over_with();
        let (reply, answer) = oneshot::channel();
        let punch = Punch {
            peer,
            addresses,
            manner,
            race,
            reply,
        };
        self.0.commands.send(Command::Punch(punch)).await.ok()?;
        answer.await.ok()
    }

    /// Waits until there is a connection to `peer` that does not run through a relay. Its remote
    /// address.
    pub async fn connected_without_relay(&self, peer: PeerId) -> Multiaddr {
        let peers = &self.0.streams.peers;
        loop {
            let changed = peers.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let direct = peers.get(&peer).and_then(|peer| peer.direct_connection());
            if let Some(direct) = direct {
                return direct.remote.clone();
            }
            changed.await;
        }
    }

    /// Of `addresses`, told by a peer that wants to be dialed at the same time as it dials, those
    /// that may be dialed: public tcp and quic sockets that are not this host's own. None twice,
    /// `max` at most.
    #[must_use]
    pub fn punchable(&self, addresses: &[Multiaddr], max: usize) -> Vec<Multiaddr> {
        let own = self.own_sockets();
        let mut usable: Vec<Multiaddr> = Vec::new();
        for address in addresses {
            let Some(socket) = bare_socket(address) else {
                continue;
            };
            let is_own = own.contains(&(socket.ip, socket.port, socket.udp));
            if usable.len() < max
                && !is_own
                && !usable.contains(address)
                && self.0.filter.admits_dial(Scope::Public, address)
            {
                usable.push(address.clone());
            }
        }
        usable
    }

    /// Every socket at which this host may be found.
    fn own_sockets(&self) -> Vec<(std::net::IpAddr, u16, bool)> {
        let addresses = &self.0.addresses;
        let known = [
            addresses.listened(),
            addresses.direct(),
            addresses.observed(1),
        ];
        let known = known.iter().flatten().filter(|own| !is_relayed(own));
        known
            .filter_map(ThinWaist::of)
            .map(|own| (own.ip, own.port, own.udp))
            .collect()
    }
}

/// The socket of a public address with bare tcp or quic.
fn bare_socket(address: &Multiaddr) -> Option<ThinWaist> {
    let socket = ThinWaist::of(address)?;
    let over = match socket.udp {
        true => socket.over == Multiaddr::from(libp2p::multiaddr::Protocol::QuicV1),
        false => socket.over.is_empty(),
    };
    (over && socket.port != 0 && Scope::of_ip(socket.ip) == Scope::Public).then_some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_public_sockets_is_punched() {
        for (text, expected) in [
            ("/ip4/1.2.3.4/tcp/4001", true),
            ("/ip6/2600::1/udp/4001/quic-v1", true),
            ("/ip4/1.2.3.4/udp/4001", false),
            ("/ip4/1.2.3.4/udp/4001/quic", false),
            ("/ip4/1.2.3.4/udp/4001/quic-v1/webtransport", false),
            ("/ip4/1.2.3.4/tcp/4001/ws", false),
            ("/ip4/1.2.3.4/tcp/4001/http", false),
            ("/ip4/1.2.3.4/tcp/0", false),
            ("/ip4/127.0.0.1/tcp/4001", false),
            ("/ip4/10.1.2.3/tcp/4001", false),
            ("/ip4/169.254.169.254/tcp/4001", false),
            ("/ip4/224.0.0.1/udp/4001/quic-v1", false),
            ("/ip4/198.51.100.1/tcp/4001", false),
            ("/ip6/::1/tcp/4001", false),
            ("/ip6/::ffff:10.0.0.1/tcp/4001", false),
            ("/ip6/64:ff9b::7f00:1/tcp/4001", false),
            ("/dns4/example.org/tcp/4001", false),
            ("/dnsaddr/example.org", false),
            ("/p2p-circuit", false),
            (
                "/ip4/1.2.3.4/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN/p2p-circuit",
                false,
            ),
        ] {
            let address = text.parse().unwrap();
            assert_eq!(bare_socket(&address).is_some(), expected, "{text}");
        }
    }
}
