//! Which addresses are taken from others.
//!
//! What identify, the DHT, pubsub or a `/dnsaddr` record says of where peers are makes this host
//! open connections. Without a filter a stranger could make it talk to any service that it can
//! reach, with text of the stranger's choice where an address carries text. So an address is
//! checked before it is remembered, and what a name resolves to is checked before it is dialed.
//! Addresses that a local client passes to CONNECT are not subject to this filter.

use crate::fixed_limits::fixed_limit;

mod scope;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use parking_lot::Mutex;

pub(crate) use scope::Scope;

/// Ports below this one belong to services of the system.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Hosts remembered from which a peer has identified itself (SECURITY.md 3). The oldest is
/// forgotten first.
const MAX_HOSTS: usize = 4096;
fixed_limit!(
    "hosts remembered from which peers were identified",
    MAX_HOSTS
);

/// Longest host name, in bytes (RFC 1035).
const MAX_HOST_NAME: usize = 253;

/// Whether `address`, which the peer at `teller` told, may be remembered and dialed.
///
/// * Components that carry text have no characters but visible ASCII ones, and a websocket's path
///   is `/`: both are written into an HTTP request.
/// * Addresses of loopback, of private, link-local and documentation ranges are admitted only from
///   a teller in the same range or a narrower one; multicast, unspecified and reserved addresses
///   never are. What names stand for is unknown here, see [`Scope::admits`].
/// * Ports below 1024 are admitted on the teller's own host alone;
///   [`AddressFilter::admits`] knows further hosts.
pub(crate) fn admits(teller: &Multiaddr, address: &Multiaddr) -> bool {
    is_harmless(address)
        && Scope::of_teller(teller).admits(address)
        && privileged_host(address).is_none_or(|host| direct_host(teller) == Some(host))
}

/// Whether `address` is of the kind that strangers may name at all: it begins with a host, and
/// carries no text of theirs.
pub(crate) fn is_harmless(address: &Multiaddr) -> bool {
    let begins_with_host = matches!(
        address.iter().next(),
        Some(
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Ip6zone(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
                | Protocol::Dnsaddr(_)
        )
    );
    begins_with_host
        && address.iter().all(|part| match part {
            Protocol::Ws(path) | Protocol::Wss(path) => path == "/",
            Protocol::Dns(name)
            | Protocol::Dns4(name)
            | Protocol::Dns6(name)
            | Protocol::Dnsaddr(name)
            | Protocol::Sni(name) => is_host_name(&name),
            Protocol::HttpPath(text) | Protocol::Unix(text) | Protocol::Ip6zone(text) => {
                text.bytes().all(|byte| byte.is_ascii_graphic())
            }
            _ => true,
        })
}

fn is_host_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_HOST_NAME).contains(&name.len()) && name.bytes().all(letter)
}

/// The host that `address` begins with, if it is not reached through a relay.
fn direct_host(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    host(address)
}

fn host(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    })
}

/// The host of an address whose port is one of the system's.
fn privileged_host(address: &Multiaddr) -> Option<IpAddr> {
    let privileged = address.iter().any(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => port < FIRST_UNPRIVILEGED_PORT,
        _ => false,
    });
    if privileged { host(address) } else { None }
}

/// The filter of one node, which knows from which hosts peers have identified themselves.
#[derive(Debug, Default)]
pub(super) struct AddressFilter {
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    known: HashSet<IpAddr>,
    in_order: VecDeque<IpAddr>,
}

impl AddressFilter {
    /// A peer at `remote` has identified itself.
    pub(super) fn identified(&self, remote: &Multiaddr) {
        let Some(host) = direct_host(remote) else {
            return;
        };
        let mut hosts = self.hosts.lock();
        if hosts.known.insert(host) {
            hosts.in_order.push_back(host);
            if hosts.in_order.len() > MAX_HOSTS
                && let Some(oldest) = hosts.in_order.pop_front()
            {
                hosts.known.remove(&oldest);
            }
        }
    }

    /// As [`admits`]; ports below 1024 are admitted on every host from which a peer has
    /// identified itself.
    pub(super) fn admits(&self, teller: &Multiaddr, address: &Multiaddr) -> bool {
        admits(teller, address) || self.admits_dial(Scope::of_teller(teller), address)
    }

    /// Whether `address`, told by somebody of this scope, may be dialed. To be asked once names
    /// are resolved.
    pub(super) fn admits_dial(&self, teller: Scope, address: &Multiaddr) -> bool {
        is_harmless(address)
            && teller.admits(address)
            && privileged_host(address).is_none_or(|host| self.hosts.lock().known.contains(&host))
    }
}
