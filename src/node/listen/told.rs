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
    error::{ListenersError, MAX_LISTENERS},
    plan::{self, Socket},
};

/// An address that is listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerInfo {
    /// As it was asked for.
    pub asked: Multiaddr,
    /// What it is bound to.
    pub bound: Vec<Multiaddr>,
}

/// What was asked for, and the listeners for it.
#[derive(Debug)]
struct Asked {
    address: Multiaddr,
    ids: Vec<ListenerId>,
}

/// The listeners of a node.
#[derive(Debug)]
pub(in super::super) struct Listeners {
    /// Their addresses, in the order in which they became known.
    addresses: Vec<(ListenerId, Multiaddr)>,
    wildcards: HashMap<ListenerId, IpAddr>,
    /// Configured addresses that a wildcard listener covers.
    aliases: Vec<Multiaddr>,
    /// Wildcard sockets in whose place there are listeners on single addresses, each with the address
    /// that was asked for.
    unwatched: Vec<(Socket, IpAddr, Multiaddr)>,
    asked: Vec<Asked>,
}

impl Listeners {
    pub(super) fn new(aliases: Vec<Multiaddr>) -> Self {
        Self {
            addresses: Vec::new(),
            wildcards: HashMap::new(),
            aliases,
            unwatched: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// These are the listeners for `address`.
    pub(super) fn add(&mut self, address: Multiaddr, ids: Vec<ListenerId>) {
        self.asked.push(Asked { address, ids });
    }

    pub(super) fn add_aliases(&mut self, aliases: Vec<Multiaddr>) {
        self.aliases.extend(aliases);
    }

    /// Whether there may be so many more.
    pub(in super::super) fn has_room(&self, more: usize) -> bool {
        self.asked.len() + self.aliases.len() + more <= MAX_LISTENERS
    }

    /// All that is listened on.
    pub(in super::super) fn list(&self) -> Vec<ListenerInfo> {
        let asked = self.asked.iter().map(|asked| ListenerInfo {
            asked: asked.address.clone(),
            bound: self.bound(asked).cloned().collect(),
        });
        let aliases = self.aliases.iter().map(|alias| ListenerInfo {
            asked: alias.clone(),
            bound: vec![alias.clone()],
        });
        asked.chain(aliases).collect()
    }

    fn bound<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = &'a Multiaddr> {
        let own = self
            .addresses
            .iter()
            .filter(|(id, _)| asked.ids.contains(id));
        own.map(|(_, address)| address)
    }

    /// Stops listening on `addresses`, as they were asked for or are bound, or on none of them. What was
    /// bound.
    pub(in super::super) fn remove(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        addresses: &[Multiaddr],
    ) -> Result<Vec<Multiaddr>, ListenersError> {
        let is_meant = |asked: &Asked, address: &Multiaddr| {
            asked.address == *address || self.bound(asked).any(|bound| bound == address)
        };
        let mut meant: Vec<Multiaddr> = Vec::new();
        for address in addresses {
            let mut asked = self.asked.iter().filter(|asked| is_meant(asked, address));
            match asked.next() {
                Some(asked) => meant.push(asked.address.clone()),
                None if self.aliases.contains(address) => {}
                None => return Err(ListenersError::Unknown(address.clone())),
            }
        }
        let gone = |asked: &&Asked| meant.contains(&asked.address);
        let ids = self
            .asked
            .iter()
            .filter(gone)
            .flat_map(|asked| asked.ids.clone());
        let ids: Vec<ListenerId> = ids.collect();
        let bound = self.addresses.iter().filter(|(id, _)| ids.contains(id));
        let bound = bound.map(|(_, address)| address.clone()).collect();
        self.unwatched.retain(|(.., asked)| !meant.contains(asked));
        self.close(swarm, &ids);
        // Also those that have no listener on any address of the host.
        self.asked.retain(|asked| !meant.contains(&asked.address));
        let asked = &self.asked;
        let covered = |alias: &Multiaddr| asked.iter().any(|one| plan::covers(&one.address, alias));
        self.aliases
            .retain(|alias| !addresses.contains(alias) && covered(alias));
        Ok(bound)
    }

    /// Closes these, and forgets what they are for.
    pub(in super::super) fn close(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        ids: &[ListenerId],
    ) {
        for id in ids {
            swarm.remove_listener(*id);
            self.wildcards.remove(id);
        }
        self.addresses.retain(|(id, _)| !ids.contains(id));
        self.asked
            .retain(|asked| asked.ids.is_empty() || !asked.ids.iter().all(|id| ids.contains(id)));
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
        (socket, asked): (&Socket, &Multiaddr),
        wildcard: IpAddr,
        host: &[IpAddr],
    ) -> Vec<ListenerId> {
        let entry = (socket.clone(), wildcard, asked.clone());
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
        for (socket, wildcard, asked) in self.unwatched.clone() {
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
                        let known = self.asked.iter_mut().find(|one| one.address == asked);
                        if let Some(known) = known {
                            known.ids.push(id);
                        }
                        opened.push(id);
                    }
                    Err(error) => tracing::debug!(%ip, %error, "not listened on"),
                }
            }
        }
        opened
    }
}
