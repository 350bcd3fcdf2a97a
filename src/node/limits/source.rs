//! Where an inbound connection comes from, and whom it counts for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use libp2p::{Multiaddr, multiaddr::Protocol};

use super::values::{AddressLimits, ConnectionLimits};
use crate::node::address_filter::Scope;

/// An IPv6 customer, who is given a /56 or a /64 of it (go-libp2p's narrower prefix).
const CUSTOMER: u8 = 56;

/// An IPv6 site (go-libp2p's wider prefix).
const SITE: u8 = 48;

/// A prefix, and what its addresses may do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) prefix: IpNet,
    pub(super) limits: AddressLimits,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) ip: IpAddr,
    /// The narrowest first; none where nothing is limited by address.
    levels: [Option<Level>; 2],
    /// The widest prefix. Whoever is in the same one shares its luck while handshakes give way.
    pub(super) group: IpNet,
    /// Whether packets from the address have been answered from there. The first packet of quic may
    /// name anybody's.
    pub(super) proven: bool,
}

impl Source {
    pub(super) fn levels(&self) -> impl Iterator<Item = Level> + use<> {
        self.levels.into_iter().flatten()
    }
}

/// Which limits hold for which addresses.
#[derive(Debug)]
pub(super) struct Classes {
    public: AddressLimits,
    local: AddressLimits,
    exempt: Vec<IpNet>,
}

impl Classes {
    pub(super) fn new(limits: &ConnectionLimits, exempt: Vec<IpNet>) -> Self {
        Self {
            public: limits.per_address,
            local: limits.per_local_address,
            exempt,
        }
    }

    /// Whom a connection from `remote` counts for. `None` if it comes through another peer, where
    /// the address is not its own.
    ///
    /// Loopback and what the operator exempts may do all. `is_own` tells the machine's own
    /// addresses, which count as private ones do.
    pub(super) fn source(
        &self,
        remote: &Multiaddr,
        is_own: impl FnOnce(IpAddr) -> bool,
    ) -> Option<Source> {
        let ip = origin(remote)?;
        let exempt = |net: &IpNet| net.contains(&ip);
        let limits = match Scope::of_ip(ip) {
            Scope::Loopback => None,
            _ if self.exempt.iter().any(exempt) => None,
            Scope::Private | Scope::LinkLocal => Some(self.local),
            _ if is_own(ip) => Some(self.local),
            Scope::Public | Scope::Documentation | Scope::Nowhere => Some(self.public),
        };
        let level =
            |prefix, limits: Option<AddressLimits>| limits.map(|limits| Level { prefix, limits });
        let (narrow, wide) = match ip {
            IpAddr::V4(_) => (within(ip, 32), None),
            IpAddr::V6(_) => (within(ip, CUSTOMER), Some(within(ip, SITE))),
        };
        let site = limits.map(AddressLimits::of_site);
        Some(Source {
            ip,
            levels: [
                level(narrow, limits),
                wide.and_then(|wide| level(wide, site)),
            ],
            group: wide.unwrap_or(narrow),
            proven: !remote.iter().any(|part| matches!(part, Protocol::Udp(_))),
        })
    }
}

fn within(ip: IpAddr, length: u8) -> IpNet {
    // The lengths above are valid ones.
    IpNet::new(ip, length).map_or_else(|_| ip.into(), |net| net.trunc())
}

/// The address that a connection comes from. Of IPv6 addresses that stand for IPv4 ones (RFC 4291
/// 2.5.5.2, RFC 6052) it is those: one /96 holds all of them.
fn origin(remote: &Multiaddr) -> Option<IpAddr> {
    if remote.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    match remote.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(translated(ip).map_or(ip.into(), IpAddr::from)),
        // The zone is this machine's name for an interface.
        Protocol::Ip6zone(_) => match remote.iter().nth(1)? {
            Protocol::Ip6(ip) => Some(ip.into()),
            _ => None,
        },
        _ => None,
    }
}

fn translated(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = ip.octets();
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => ip.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(exempt: &[&str]) -> Classes {
        let exempt = exempt.iter().map(|net| net.parse().unwrap()).collect();
        Classes::new(&ConnectionLimits::scaled(0, 0), exempt)
    }

    /// The prefixes that `address` counts for, with the connections of each.
    fn levels(classes: &Classes, address: &str) -> Vec<(String, usize)> {
        let source = classes.source(&address.parse().unwrap(), |ip| {
            ip == "198.51.100.9".parse::<IpAddr>().unwrap()
        });
        let levels = source.iter().flat_map(Source::levels);
        levels
            .map(|level| (level.prefix.to_string(), level.limits.connections))
            .collect()
    }

    #[test]
    fn ipv4_counts_by_address_and_ipv6_by_customer_and_site() {
        let all = classes(&[]);
        let one = |prefix: &str| vec![(prefix.to_owned(), 8)];
        assert_eq!(levels(&all, "/ip4/1.2.3.4/tcp/1"), one("1.2.3.4/32"));
        for same in ["/ip6/::ffff:1.2.3.4/tcp/1", "/ip6/64:ff9b::102:304/tcp/1"] {
            assert_eq!(levels(&all, same), one("1.2.3.4/32"), "{same}");
        }
        let both = vec![
            ("2001:db8:1:200::/56".to_owned(), 8),
            ("2001:db8:1::/48".to_owned(), 64),
        ];
        for same in [
            "/ip6/2001:db8:1:2ff::1/tcp/1",
            "/ip6/2001:db8:1:200:9::/udp/1/quic-v1",
        ] {
            assert_eq!(levels(&all, same), both, "{same}");
        }
    }

    #[test]
    fn private_and_own_addresses_have_more_and_loopback_and_exempt_ones_have_no_limit() {
        let all = classes(&["203.0.113.0/24", "2001:db8:7::/48"]);
        for (address, expected) in [
            ("/ip4/10.1.2.3/tcp/1", 256),
            ("/ip4/172.31.0.1/tcp/1", 256),
            ("/ip4/100.64.0.1/tcp/1", 256),
            ("/ip4/169.254.0.1/tcp/1", 256),
            ("/ip6/fd00::1/tcp/1", 256),
            ("/ip6/fe80::1/tcp/1", 256),
            ("/ip6zone/eth0/ip6/fe80::1/tcp/1", 256),
            // The machine's own.
            ("/ip4/198.51.100.9/tcp/1", 256),
            ("/ip4/198.51.100.8/tcp/1", 8),
        ] {
            let levels = levels(&all, address);
            assert_eq!(levels.first().map(|(_, n)| *n), Some(expected), "{address}");
        }
        for address in [
            "/ip4/127.1.2.3/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip4/203.0.113.77/tcp/1",
            "/ip6/::ffff:203.0.113.77/tcp/1",
            "/ip6/2001:db8:7:8::/tcp/1",
            "/ip4/1.2.3.4/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN/p2p-circuit",
        ] {
            assert!(levels(&all, address).is_empty(), "{address}");
        }
    }
}
