//! identify, which tells of loopback addresses only those who are on this machine, as go-libp2p does.
//!
//! The library tells every peer the same addresses. So there are two of its behaviours, of which one
//! never hears of loopback. Each connection belongs to one of them.

use std::{
    collections::HashSet,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    identify,
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

/// The protocol for all connections.
pub(super) struct Identify {
    /// Knows all addresses.
    near: identify::Behaviour,
    /// Knows all but loopback addresses.
    far: identify::Behaviour,
    /// Connections by loopback.
    local: HashSet<ConnectionId>,
}

impl Identify {
    pub(super) fn new(config: &identify::Config) -> Self {
        Self {
            near: identify::Behaviour::new(config.clone()),
            far: identify::Behaviour::new(config.clone()),
            local: HashSet::new(),
        }
    }

    /// Tells `peers`, which are connected, what is told now.
    pub(super) fn push(&mut self, peers: impl IntoIterator<Item = PeerId> + Clone) {
        // Each knows the peers of its own connections, and no others.
        self.near.push(peers.clone());
        self.far.push(peers);
    }

    fn of(&mut self, id: ConnectionId) -> &mut identify::Behaviour {
        self.either(self.local.contains(&id))
    }

    fn either(&mut self, local: bool) -> &mut identify::Behaviour {
        match local {
            true => &mut self.near,
            false => &mut self.far,
        }
    }
}

/// Whether the address begins with one of loopback.
fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip).to_canonical().is_loopback(),
        _ => false,
    }
}

/// Whether either end of a connection is a loopback address.
fn is_local(endpoint: &ConnectedPoint) -> bool {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => is_loopback(address),
        ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } => is_loopback(local_addr) || is_loopback(send_back_addr),
    }
}

impl NetworkBehaviour for Identify {
    type ConnectionHandler = THandler<identify::Behaviour>;
    type ToSwarm = identify::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let is_local = is_loopback(local) || is_loopback(remote);
        self.either(is_local)
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.either(is_loopback(address))
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if is_local(established.endpoint) {
                    self.local.insert(established.connection_id);
                }
                self.of(established.connection_id).on_swarm_event(event);
            }
            FromSwarm::ExternalAddrConfirmed(confirmed) if is_loopback(confirmed.addr) => {
                self.near.on_swarm_event(event);
            }
            event => {
                // The end of a peer's last connection concerns both.
                self.near.on_swarm_event(event);
                self.far.on_swarm_event(event);
                if let FromSwarm::ConnectionClosed(closed) = event {
                    self.local.remove(&closed.connection_id);
                }
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.of(id).on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<identify::Event, THandlerInEvent<Self>>> {
        match self.near.poll(cx) {
            Poll::Pending => self.far.poll(cx),
            ready => ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_end_may_be_loopback() {
        let inbound = |local: &str, remote: &str| {
            is_local(&ConnectedPoint::Listener {
                local_addr: local.parse().unwrap(),
                send_back_addr: remote.parse().unwrap(),
            })
        };
        for (local, remote, expected) in [
            ("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2", true),
            ("/ip6/::1/tcp/1", "/ip6/::1/tcp/2", true),
            ("/ip4/10.0.0.1/tcp/1", "/ip4/127.1.2.3/tcp/2", true),
            ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2", false),
            ("/ip4/1.2.3.4/tcp/1", "/ip4/5.6.7.8/tcp/2", false),
            ("/dns4/localhost/tcp/1", "/ip6/fe80::1/tcp/2", false),
        ] {
            assert_eq!(inbound(local, remote), expected, "{local} {remote}");
        }
    }
}
