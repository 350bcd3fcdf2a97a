//! The host's own addresses: one list for IDENTIFY, identify, the DHT, the banner and reservations.

pub(super) mod observed;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use libp2p::{Multiaddr, Swarm};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    address_filter::Scope, behaviour::Behaviour, guarded::Guarded, reach::Reach,
    thin_waist::ThinWaist,
};
use observed::{ACTIVATION, Observation};

use crate::{
    fixed_limits::fixed_limit,
    metrics::{Trigger, metrics},
};

/// Circuit addresses told (SECURITY.md 3): with more, identify's message would be too long for
/// peers that read 4 KiB.
pub(crate) const MAX_CIRCUITS: usize = 8;
fixed_limit!("circuit addresses told", MAX_CIRCUITS);

/// Public addresses told of one listener beside its own (go-libp2p's
/// `maxExternalThinWaistAddrsPerLocalAddr`).
const MAX_OBSERVED: usize = 3;
fixed_limit!("observed addresses told of one listener", MAX_OBSERVED);

/// Addresses that clients may have announced (SECURITY.md 3).
const MAX_ANNOUNCED: usize = 64;
fixed_limit!("addresses that clients have announced", MAX_ANNOUNCED);

/// Why addresses are not announced, or go on to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// There would be more than may be.
    #[error("too many announced addresses: at most {MAX_ANNOUNCED}")]
    TooMany,
    /// It is not announced.
    #[error("address {0} is not announced")]
    Unknown(Multiaddr),
}

/// A port that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Of udp, else of tcp.
    pub udp: bool,
    /// Its number.
    pub number: u16,
}

/// What the list is made from.
#[derive(Debug, Default)]
struct Parts {
    /// Replaces all others but circuits, unless it is empty.
    announced: Vec<Multiaddr>,
    listened: Vec<Multiaddr>,
    /// By the router's word.
    mapped: Vec<(Port, SocketAddr)>,
    /// By the word of peers, those that most agree on first.
    observed: Vec<Observation>,
    /// Of relays that hold a place for this node.
    circuits: Vec<Multiaddr>,
    reach: Reach,
    /// While private, public addresses give way to circuits. go-libp2p does so with autorelay
    /// alone.
    relays: bool,
}

impl Parts {
    /// The addresses to tell, none twice.
    fn told(&self) -> Vec<Multiaddr> {
        let direct = self.direct();
        if !self.relays || self.reach != Reach::Private {
            return direct;
        }
        let near = direct
            .into_iter()
            .filter(|address| Scope::of_address(address) != Scope::Public);
        let mut told: Vec<Multiaddr> = near.collect();
        for circuit in self.circuits.iter().take(MAX_CIRCUITS) {
            push(&mut told, circuit);
        }
        told
    }

    /// Where the host can be dialed without a relay, if anywhere.
    fn direct(&self) -> Vec<Multiaddr> {
        if !self.announced.is_empty() {
            return self.announced.clone();
        }
        let mut direct = Vec::new();
        for address in self.mapped().iter().chain(&self.observed()) {
            push(&mut direct, address);
        }
        for address in &self.listened {
            push(&mut direct, address);
        }
        // By their bytes, as go-libp2p's `AllAddrs` sorts them: clients that take the first take the same.
        direct.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        direct
    }

    /// Addresses that the router forwards, for whatever is spoken on the same socket.
    fn mapped(&self) -> Vec<Multiaddr> {
        let mut mapped = Vec::new();
        for own in self.listened.iter().filter_map(ThinWaist::of) {
            let port = Port {
                udp: own.udp,
                number: own.port,
            };
            let external = self.mapped.iter().find(|(mapped, _)| *mapped == port);
            if let Some((_, external)) = external
                && external.is_ipv4() == own.ip.is_ipv4()
            {
                let address = ThinWaist {
                    ip: external.ip(),
                    port: external.port(),
                    ..own
                };
                push(&mut mapped, &address.address());
            }
        }
        mapped
    }

    /// Public addresses that enough peers agree on, for whatever is spoken on the same socket.
    fn observed(&self) -> Vec<Multiaddr> {
        let mut observed = Vec::new();
        for own in self.listened.iter().filter_map(ThinWaist::of) {
            let socket = (own.ip.is_ipv4(), own.udp, own.port);
            let seen = self.observed.iter().filter(|seen| {
                let at = (seen.external.ip().is_ipv4(), seen.udp, seen.local);
                at == socket && seen.observers >= ACTIVATION
            });
            for seen in seen.take(MAX_OBSERVED) {
                let address = ThinWaist {
                    ip: seen.external.ip(),
                    port: seen.external.port(),
                    ..own.clone()
                };
                push(&mut observed, &address.address());
            }
        }
        observed
    }
}

fn push(list: &mut Vec<Multiaddr>, address: &Multiaddr) {
    if !list.contains(address) {
        list.push(address.clone());
    }
}

/// The host's own addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct HostAddresses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: Mutex<Parts>,
    told: watch::Sender<Arc<[Multiaddr]>>,
    /// Whether any peer sees this host at a public address.
    seen: watch::Sender<bool>,
}

impl HostAddresses {
    /// `announce` replaces the listen addresses, verbatim, unless it is empty. With `relays`, and
    /// while private, circuits replace public addresses.
    pub(super) fn new(announce: &[Multiaddr], reach: Reach, relays: bool) -> Self {
        let parts = Parts {
            announced: announce.to_vec(),
            reach,
            relays,
            ..Parts::default()
        };
        Self(Arc::new(Shared {
            told: watch::Sender::new(parts.told().into()),
            parts: Mutex::new(parts),
            seen: watch::Sender::new(false),
        }))
    }

    /// The addresses at this moment.
    pub(super) fn get(&self) -> Arc<[Multiaddr]> {
        self.0.told.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<[Multiaddr]>> {
        self.0.told.subscribe()
    }

    /// Whether any peer sees this host at a public address, as that changes.
    pub(super) fn subscribe_seen(&self) -> watch::Receiver<bool> {
        self.0.seen.subscribe()
    }

    /// Where the host can be dialed without a relay, if anywhere: the same whatever is known of
    /// its reach.
    pub(super) fn direct(&self) -> Vec<Multiaddr> {
        self.0.parts.lock().direct()
    }

    /// The ports that are listened on at IPv4 addresses that `wanted` wants, none twice.
    pub(super) fn ports(&self, wanted: impl Fn(Ipv4Addr) -> bool) -> Vec<Port> {
        let mut ports = Vec::new();
        for own in self.listened().iter().filter_map(ThinWaist::of) {
            let port = Port {
                udp: own.udp,
                number: own.port,
            };
            let IpAddr::V4(ip) = own.ip else { continue };
            if wanted(ip) && !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }

    /// The addresses that listeners have.
    pub(super) fn listened(&self) -> Vec<Multiaddr> {
        self.0.parts.lock().listened.clone()
    }

    /// Public addresses at which at least `observers` peers have seen this host.
    pub(super) fn observed(&self, observers: usize) -> Vec<Multiaddr> {
        let parts = self.0.parts.lock();
        let seen = parts.observed.iter();
        let seen = seen.filter(|seen| seen.observers >= observers);
        seen.map(Observation::address).collect()
    }

    pub(super) fn has_circuits(&self) -> bool {
        !self.0.parts.lock().circuits.is_empty()
    }

    /// The addresses that replace all others but circuits.
    pub(super) fn announced(&self) -> Vec<Multiaddr> {
        self.0.parts.lock().announced.clone()
    }

    pub(super) fn announce(&self, addresses: &[Multiaddr]) -> Result<(), AnnounceError> {
        self.change(|parts| {
            let mut announced = parts.announced.clone();
            for address in addresses {
                push(&mut announced, address);
            }
            if announced.len() > MAX_ANNOUNCED {
                return Err(AnnounceError::TooMany);
            }
            parts.announced = announced;
            Ok(())
        })
    }

    pub(super) fn unannounce(&self, addresses: &[Multiaddr]) -> Result<(), AnnounceError> {
        self.change(|parts| {
            for address in addresses {
                if !parts.announced.contains(address) {
                    return Err(AnnounceError::Unknown(address.clone()));
                }
            }
            parts.announced.retain(|known| !addresses.contains(known));
            Ok(())
        })
    }

    pub(super) fn set_announced(&self, addresses: Vec<Multiaddr>) {
        self.change(|parts| parts.announced = addresses);
    }

    pub(super) fn set_listened(&self, addresses: Vec<Multiaddr>) {
        self.change(|parts| parts.listened = addresses);
    }

    pub(super) fn set_mapped(&self, mapped: Vec<(Port, SocketAddr)>) {
        self.change(|parts| parts.mapped = mapped);
    }

    pub(super) fn set_observed(&self, observed: Vec<Observation>) {
        let seen = !observed.is_empty();
        self.change(|parts| parts.observed = observed);
        self.0.seen.send_if_modified(|known| {
            let changed = *known != seen;
            *known = seen;
            changed
        });
    }

    pub(super) fn set_circuits(&self, addresses: Vec<Multiaddr>) {
        self.change(|parts| parts.circuits = addresses);
    }

    pub(super) fn set_reach(&self, reach: Reach) {
        self.change(|parts| parts.reach = reach);
    }

    /// The list is made while the lock is held, so that it is never older than its parts.
    fn change<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        let mut parts = self.0.parts.lock();
        let outcome = change(&mut parts);
        let told = parts.told();
        let changed = self.0.told.send_if_modified(|known| {
            let changed = **known != *told;
            if changed {
                *known = told.into();
            }
            changed
        });
        if changed {
            metrics().identify.triggered(Trigger::Addresses);
        }
        outcome
    }
}

/// Has identify tell peers `told`: the swarm's external addresses are what it tells.
pub(super) fn tell(told: &[Multiaddr], swarm: &mut Swarm<Guarded<Behaviour>>) {
    let gone: Vec<_> = swarm
        .external_addresses()
        .filter(|known| !told.contains(known))
        .cloned()
        .collect();
    let is_gone = !gone.is_empty();
    for address in gone {
        swarm.remove_external_address(&address);
    }
    let known: Vec<_> = swarm.external_addresses().cloned().collect();
    let is_new = |address: &Multiaddr| !known.contains(address);
    let changed = is_gone || told.iter().any(is_new);
    for address in told {
        swarm.add_external_address(address.clone());
    }
    if changed {
        // The library pushes what changes of listeners alone.
        let connected: Vec<_> = swarm.connected_peers().copied().collect();
        swarm.behaviour_mut().inner_mut().identify.push(connected);
    }
}

#[cfg(test)]
mod tests;
