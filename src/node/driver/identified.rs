//! What peers tell of themselves.

use libp2p::{
    PeerId, identify,
    swarm::{ConnectionId, StreamUpgradeError},
};

use super::{
    super::{
        address_filter::Scope,
        dial::Origin,
        identify_request::{Identity, Requested},
        peer_address::strip_peer,
    },
    Driver,
};
use crate::identity::contained_key;

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
                tracing::debug!(peer = %peer_id, %error, "identify message refused by the library");
                let streams = self.streams.clone();
                self.identities.begin(streams, peer_id, connection_id);
            }
            identify::Event::Error { peer_id, error, .. } => {
                tracing::debug!(peer = %peer_id, %error, "identify failed");
                self.streams.peers.set_identified(&peer_id, None);
            }
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
        }
    }

    pub(super) fn on_requested_identity(&mut self, (peer, connection, identity): Requested) {
        match identity {
            Ok(identity) => self.identified(peer, connection, identity),
            Err(error) => {
                let reason = format!("{:#}", anyhow::Error::from(error));
                tracing::debug!(%peer, reason, "identify failed");
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
            let addresses = identity
                .addresses
                .into_iter()
                .map(|address| strip_peer(address, peer))
                .filter(|address| self.filter.admits(remote, address))
                .collect();
            let origin = Origin::Told(Scope::of_teller(remote));
            self.book.set_connected(peer, addresses, origin);
        }
        if let Some(key) = identity.public_key
            && contained_key(&peer).is_none()
        {
            self.book.set_key(&peer, key);
        }
        let protocols = Some(identity.protocols);
        if let Some(known) = self.streams.peers.set_identified(&peer, protocols) {
            self.book.set_protocols(&peer, known);
        }
    }
}
