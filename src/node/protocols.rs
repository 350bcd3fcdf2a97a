//! Which protocols the swarm's behaviours serve.

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionHandler as _, ConnectionId, NetworkBehaviour, handler::UpgradeInfoSend as _,
    },
};

/// The names that `behaviour` would negotiate on an inbound connection. It belongs to no swarm, so
/// the connection that it is shown here does not exist.
pub(super) fn served(mut behaviour: impl NetworkBehaviour) -> Vec<String> {
    let (nowhere, nobody) = (Multiaddr::empty(), PeerId::random());
    let handler = behaviour.handle_established_inbound_connection(
        ConnectionId::new_unchecked(0),
        nobody,
        &nowhere,
        &nowhere,
    );
    let handler = match handler {
        Ok(handler) => handler,
        Err(denied) => {
            tracing::error!(%denied, "protocols of the library are unknown");
            return Vec::new();
        }
    };
    let (upgrade, _) = handler.listen_protocol().into_upgrade();
    let names = upgrade.protocol_info();
    names.map(|name| name.as_ref().to_owned()).collect()
}
