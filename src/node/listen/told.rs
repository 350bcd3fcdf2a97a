//! The addresses that listeners have, and those of them that the host tells of.

use std::{collections::HashMap, net::IpAddr};

use libp2p::{
    Multiaddr, Swarm, core::transport::ListenerId, multiaddr::Protocol, swarm::SwarmEvent,
};

use super::{
    super::{
        behaviour::{Behaviour, BehaviourEvent},
        guarded::Guarded,
        interfaces,
    },
    plan::Socket,
};

/// The listeners of a node.
#[derive(Debug)]
pub(in super::super) struct Listeners {
    /// Their addresses, in the order in which they became known.
    addresses: Vec<(ListenerId, Multiaddr)>,
    wildcards: HashMap<ListenerId, IpAddr>,
    /// Configured addresses that a wildcard listener covers.
    aliases: Vec<Multiaddr>,
    /// Wildcard sockets in whose place there are listeners on single addresses.
    unwatched: Vec<(Socket, IpAddr)>,
}

impl Listeners {
    pub(super) fn new(aliases: Vec<Multiaddr>) -> Self {
        Self {
            addresses: Vec::new(),
            wildcards: HashMap::new(),
            aliases,
            unwatched: Vec::new(),
        }
    }

    pub(super) fn add_wildcard(&mut self, id: ListenerId, ip: IpAddr) {
        self.wildcards.insert(id, ip);
    }

    /// The wildcard address that the listener is bound to.
    pub(super) fn wildcard(&self, id: ListenerId) -> Option<IpAddr> {
        self.wildcards.get(&id).copied()
    }

    /// Takes note of what becomes of a listener; whether the event tells that.
    pub(in super::super) fn on_event(&mut self, event: &SwarmEvent<BehaviourEvent>) -> bool {
        match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                let entry = (*listener_id, address.clone());
                if !self.addresses.contains(&entry) {
                    self.addresses.push(entry);
                }
                true
            }
            SwarmEvent::ExpiredListenAddr {
                listener_id,
                address,
            } => {
                self.addresses
                    .retain(|(id, known)| (id, known) != (listener_id, address));
                true
            }
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.addresses.retain(|(id, _)| id != listener_id);
                self.wildcards.remove(listener_id);
                true
            }
            _ => false,
        }
    }

    /// The addresses to tell of, none twice.
    pub(in super::super) fn told(&self) -> Vec<Multiaddr> {
        let primary = interfaces::primary();
        let mut told: Vec<Multiaddr> = Vec::new();
        let listened = self.addresses.iter().filter(|(id, address)| {
            let ip = match address.iter().next() {
                Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
                Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
                _ => return true,
            };
            !self.wildcards.contains_key(id) || interfaces::is_told(ip, &primary)
        });
        let listened = listened.map(|(_, address)| address);
        for address in listened.chain(&self.aliases) {
            if !told.contains(address) {
                told.push(address.clone());
            }
        }
        told
    }

    /// Listens on each address of the host, which are `host`, instead of the wildcard that
    /// `socket` is for.
    pub(super) fn open_each(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        socket: &Socket,
        wildcard: IpAddr,
        host: &[IpAddr],
    ) -> Vec<ListenerId> {
        let entry = (socket.clone(), wildcard);
        if !self.unwatched.contains(&entry) {
            self.unwatched.push(entry);
        }
        self.open_new(swarm, host)
    }

    /// Whether some interfaces are not watched, so that [`Listeners::open_new`] has to be called
    /// from time to time.
    pub(in super::super) fn are_unwatched(&self) -> bool {
        !self.unwatched.is_empty()
    }

    /// Listens on those of `host`, the addresses that the host has, that it has got since its
    /// interfaces, which are not watched, were looked at.
    pub(in super::super) fn open_new(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        host: &[IpAddr],
    ) -> Vec<ListenerId> {
        let mut opened = Vec::new();
        for (socket, wildcard) in self.unwatched.clone() {
            let family = |ip: &&IpAddr| ip.is_ipv4() == wildcard.is_ipv4();
            for ip in host.iter().filter(family) {
                let address = socket.on(*ip);
                let listens = self.addresses.iter().any(|(id, known)| {
                    self.wildcards.contains_key(id)
                        && known.iter().next() == address.iter().next()
                        && socket.is_like(known)
                });
                if listens || !interfaces::is_told(*ip, &[]) {
                    continue;
                }
                match swarm.listen_on(address) {
                    Ok(id) => {
                        self.wildcards.insert(id, wildcard);
                        opened.push(id);
                    }
                    Err(error) => tracing::debug!(%ip, %error, "not listened on"),
                }
            }
        }
        opened
    }
}
