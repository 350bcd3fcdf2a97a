//! The addresses that listeners have, and those that the host tells of.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use libp2p::{
    Multiaddr, Swarm, core::transport::ListenerId, multiaddr::Protocol, swarm::SwarmEvent,
};
use parking_lot::RwLock;

use super::{
    super::{
        behaviour::{Behaviour, BehaviourEvent},
        guarded::Guarded,
        interfaces,
    },
    plan::Socket,
};

/// The host's own addresses, as IDENTIFY, identify, the DHT and the banner tell them.
#[derive(Debug, Clone)]
pub(in super::super) struct HostAddresses {
    current: Arc<RwLock<Arc<[Multiaddr]>>>,
    announced: bool,
}

impl HostAddresses {
    /// `announce` replaces the listen addresses, verbatim, unless it is empty.
    pub(in super::super) fn new(announce: &[Multiaddr]) -> Self {
        Self {
            current: Arc::new(RwLock::new(announce.into())),
            announced: !announce.is_empty(),
        }
    }

    /// The addresses at this moment.
    pub(in super::super) fn get(&self) -> Arc<[Multiaddr]> {
        self.current.read().clone()
    }

    /// Takes over what `listeners` have, and has identify tell peers the same.
    pub(in super::super) fn update(
        &self,
        listeners: &Listeners,
        swarm: &mut Swarm<Guarded<Behaviour>>,
    ) {
        if !self.announced {
            *self.current.write() = listeners.told(&interfaces::primary()).into();
        }
        let told = self.get();
        let gone: Vec<_> = swarm
            .external_addresses()
            .filter(|known| !told.contains(known))
            .cloned()
            .collect();
        for address in gone {
            swarm.remove_external_address(&address);
        }
        for address in told.iter() {
            swarm.add_external_address(address.clone());
        }
    }
}

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
    fn told(&self, primary: &[IpAddr]) -> Vec<Multiaddr> {
        let mut told: Vec<Multiaddr> = Vec::new();
        let listened = self.addresses.iter().filter(|(id, address)| {
            let ip = match address.iter().next() {
                Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
                Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
                _ => return true,
            };
            !self.wildcards.contains_key(id) || interfaces::is_told(ip, primary)
        });
        let listened = listened.map(|(_, address)| address);
        for address in listened.chain(&self.aliases) {
            if !told.contains(address) {
                told.push(address.clone());
            }
        }
        told
    }

    /// Listens on each address of the host instead of the wildcard that `socket` is for.
    pub(super) fn open_each(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        socket: &Socket,
        wildcard: IpAddr,
    ) -> Vec<ListenerId> {
        let entry = (socket.clone(), wildcard);
        if !self.unwatched.contains(&entry) {
            self.unwatched.push(entry);
        }
        self.open_new(swarm)
    }

    /// Whether some interfaces are not watched, so that [`Listeners::open_new`] has to be called
    /// from time to time.
    pub(in super::super) fn are_unwatched(&self) -> bool {
        !self.unwatched.is_empty()
    }

    /// Listens on addresses that the host has got since, where its interfaces are not watched.
    pub(in super::super) fn open_new(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
    ) -> Vec<ListenerId> {
        let host = interfaces::addresses().unwrap_or_else(|error| {
            tracing::debug!(%error, "the addresses of this host are unknown");
            vec![
                IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
                IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ]
        });
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
