//! What peers tell of themselves.

use libp2p::{
    Multiaddr, PeerId, identify,
    identity::{KeyType, PublicKey},
    multiaddr::Protocol,
    swarm::{ConnectionId, StreamUpgradeError},
};

use super::{
    super::{
        address_filter::Scope,
        dial::Origin,
        identify_request::{Identity, Requested},
        misbehaviour::misbehaves,
        peer_address::strip_peer,
    },
    Driver,
};
use crate::{
    events::{Event, Kind},
    identity::contained_key,
    metrics::{Push, metrics},
    telemetry::Chain,
};

/// The peer of a connection that was `dialed`, or was not, has this key.
pub(super) fn count_key(key: &PublicKey, dialed: bool) {
    let key_type = match key.key_type() {
        KeyType::Ed25519 => "Ed25519",
        KeyType::RSA => "RSA",
        KeyType::Secp256k1 => "Secp256k1",
        KeyType::Ecdsa => "ECDSA",
    };
    metrics().swarm.key(dialed, key_type);
}

/// How far `address` seems to be from `remote`, where its peer is met: a peer dials from the port
/// that it listens on.
fn distance(remote: &Multiaddr, address: &Multiaddr) -> u8 {
    let host = |address: &Multiaddr| address.iter().next().map(Protocol::acquire);
    match () {
        () if address == remote => 0,
        () if host(address) == host(remote) => 1,
        () => 2,
    }
}

impl Driver {
    pub(super) fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received {
                peer_id,
                connection_id,
                info,
            } => {
                if self.observed.told(connection_id, &info.observed_addr) {
                    self.addresses.set_observed(self.observed.count());
                }
                self.streams.peers.set_agent(&peer_id, &info.agent_version);
                self.count(peer_id, connection_id, &info);
                let names = info.protocols.iter();
                let identity = Identity {
                    public_key: Some(info.public_key),
                    addresses: info.listen_addrs,
                    protocols: names.map(|name| name.as_ref().to_owned()).collect(),
                };
                self.identified(peer_id, connection_id, identity);
            }
            identify::Event::Error {
                peer_id,
                connection_id,
                error: StreamUpgradeError::Apply(error),
            } => {
                tracing::debug!(peer = %peer_id, error = %Chain(&error), "identify message refused by the library");
                let streams = self.streams.clone();
                self.identities.begin(streams, peer_id, connection_id);
            }
            identify::Event::Error { peer_id, error, .. } => {
                metrics().identify.push_support(Push::Unknown);
                tracing::debug!(peer = %peer_id, error = %Chain(&error), "identify failed");
                self.streams.peers.set_identified(&peer_id, None);
            }
            identify::Event::Sent { .. } => metrics().identify.sent(),
            identify::Event::Pushed { .. } => metrics().identify.pushed(),
        }
    }

    /// Counts a message, which is a push if it is not the first of its connection.
    fn count(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        let identify = &metrics().identify;
        let connections = self.connections.get(&peer);
        let is_open = connections.is_some_and(|open| open.contains_key(&connection));
        let is_push = is_open && !self.identified.insert(connection);
        identify.received(is_push, info.protocols.len(), info.listen_addrs.len());
        if !is_push {
            let pushes = info.protocols.contains(&identify::PUSH_PROTOCOL_NAME);
            identify.push_support(match pushes {
                true => Push::Supported,
                false => Push::NotSupported,
            });
        }
    }

    pub(super) fn on_requested_identity(&mut self, (peer, connection, identity): Requested) {
        match identity {
            Ok(identity) => self.identified(peer, connection, identity),
            Err(error) => {
                let reason = Chain(&error).to_string();
                tracing::debug!(%peer, reason, "identify failed");
                misbehaves(&self.streams.peers, &peer, "identify", &reason);
                self.streams.peers.set_unreadable(&peer, &reason);
            }
        }
    }

    /// Takes note of what `peer` says of itself on `connection`.
    fn identified(&mut self, peer: PeerId, connection: ConnectionId, identity: Identity) {
        let connections = self.connections.get(&peer);
        let remote = connections.and_then(|connections| connections.get(&connection));
        // Its last words may come after the connection is closed.
        if let Some(remote) = remote {
            self.filter.identified(remote);
            let mut addresses: Vec<_> = identity
                .addresses
                .into_iter()
                .map(|address| strip_peer(address, peer))
                .filter(|address| self.filter.admits(remote, address))
                .collect();
            // Of too many, those are remembered that most likely lead to it.
            addresses.sort_by_key(|address| distance(remote, address));
            let origin = Origin::Told(Scope::of_teller(remote));
            self.book.set_connected(peer, addresses, origin);
        }
        if let Some(key) = identity.public_key
            && contained_key(&peer).is_none()
        {
            let connection = self.streams.peers.get(&peer);
            let connection = connection.and_then(|peer| peer.best_connection());
            if let Some(connection) = connection.filter(|_| self.book.key(&peer).is_none()) {
                count_key(&key, connection.dialed);
            }
            self.book.set_key(&peer, key);
        }
        let protocols = Some(identity.protocols);
        if let Some(known) = self.streams.peers.set_identified(&peer, protocols) {
            self.events
                .tell(Kind::PeerIdentified, || Event::PeerIdentified {
                    peer,
                    agent: self.streams.peers.get(&peer).and_then(|peer| peer.agent()),
                    protocols: known.clone(),
                    addresses: self.book.get(&peer),
                });
            self.book.set_protocols(&peer, known);
        }
    }
}
