//! What the node knows of peers: where they are, what they speak, who they are.

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, identity::PublicKey};

use super::{Node, PeerRouting, book, dial::Origin};
use crate::{identity::contained_key, streams::Peer};

impl Node {
    /// Connected peers, each with the remote addresses of its connections.
    #[must_use]
    pub fn peers(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let peers = self.0.streams.peers.list();
        peers
            .into_iter()
            .map(|(id, peer)| {
                let mut addresses: Vec<Multiaddr> = Vec::new();
                for connection in peer.connections() {
                    if !addresses.contains(&connection.remote) {
                        addresses.push(connection.remote.clone());
                    }
                }
                (id, addresses)
            })
            .collect()
    }

    /// The known addresses of a peer; `None` if nothing is known of it.
    #[must_use]
    pub fn peer_addresses(&self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        if *peer == self.0.peer_id {
            return Some(self.addresses().to_vec());
        }
        let addresses = self.0.book.get(peer);
        let known = !addresses.is_empty() || self.0.streams.peers.get(peer).is_some();
        known.then_some(addresses)
    }

    /// Remembers addresses that other peers told of a peer, for as long as those a client names.
    pub fn learn(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.0
            .book
            .add(peer, addresses, book::TEMPORARY, Origin::Hearsay);
    }

    /// Where a connected peer is by its own word or by having been reached there, circuits
    /// included. What others say of it is left out.
    #[must_use]
    pub fn own_word(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.0.book.own_word(peer)
    }

    /// Whether `address`, told by the peer at `teller` (a connection's remote address), may be
    /// remembered and dialed. See [`super::address_filter::admits`].
    #[must_use]
    pub fn admits(&self, teller: &Multiaddr, address: &Multiaddr) -> bool {
        self.0.filter.admits(teller, address)
    }

    /// The public key of a peer, if its id contains it or it was met.
    #[must_use]
    pub fn public_key(&self, peer: &PeerId) -> Option<PublicKey> {
        contained_key(peer).or_else(|| self.0.book.key(peer))
    }

    /// Whether there is no connection, or nobody left to ask where others are.
    pub(super) fn is_isolated(&self) -> bool {
        let lost = |routing: &Arc<dyn PeerRouting>| routing.is_empty();
        self.0.streams.peers.list().is_empty() || self.0.routing.get().is_some_and(lost)
    }

    /// Peers without a connection that this node has dialed with success lately, `max` of them.
    pub(super) fn recently_connected(&self, max: usize) -> Vec<PeerId> {
        self.0.book.recently_connected(max)
    }

    /// Whether there is a connection to `peer`.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.0.streams.peers.get(peer).is_some()
    }

    /// The protocols of a peer that identify has told, also if it has left since.
    #[must_use]
    pub fn peer_protocols(&self, peer: &PeerId) -> Option<Arc<[String]>> {
        let connected = self.connected_protocols(peer);
        connected.or_else(|| self.0.book.protocols(peer))
    }

    /// The protocols of a connected, identified peer.
    #[must_use]
    pub fn connected_protocols(&self, peer: &PeerId) -> Option<Arc<[String]>> {
        self.0.streams.peers.get(peer)?.protocols()
    }

    /// Connected peers of which identify tells that they speak one of `protocols`.
    #[must_use]
    pub fn peers_speaking(&self, protocols: &[&str]) -> Vec<PeerId> {
        let speaks = |peer: &Peer| {
            let known = peer.protocols().unwrap_or_default();
            known.iter().any(|name| protocols.contains(&name.as_str()))
        };
        let peers = self.0.streams.peers.list();
        let speaking = peers.into_iter().filter(|(_, peer)| speaks(peer));
        speaking.map(|(id, _)| id).collect()
    }
}
