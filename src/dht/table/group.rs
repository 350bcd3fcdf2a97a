//! Networks that peers are counted by, so that none of them takes the whole routing table
//! (go-libp2p-kad-dht's `peerdiversity`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::node::address_filter::Scope;

/// An IPv4 network, of the size that go-libp2p-kad-dht counts by.
const IPV4_PREFIX: u32 = 16;

/// An IPv6 network, of the size that registries assign to a provider. go-libp2p-kad-dht counts by
/// autonomous system, for which it carries a list of all of them.
const IPV6_PREFIX: u32 = 32;

/// The network of a public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Group(IpAddr);

impl Group {
    /// The network of `ip`. `None` for loopback, private and other addresses that are not public:
    /// all peers of a site share those.
    pub(in super::super) fn of(ip: IpAddr) -> Option<Self> {
        let network = match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let mask = u32::MAX << (32 - IPV4_PREFIX);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX << (128 - IPV6_PREFIX);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        (Scope::of_ip(ip) == Scope::Public).then_some(Self(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ip: &str) -> Option<Group> {
        Group::of(ip.parse().expect("an address"))
    }

    #[test]
    fn a_provider_is_one_group() {
        assert_eq!(group("8.8.1.1"), group("8.8.200.9"));
        assert_ne!(group("8.8.1.1"), group("8.9.1.1"));
        assert_eq!(group("2a01:4f8:1::1"), group("2a01:4f8:ffff::2"));
        assert_ne!(group("2a01:4f8::1"), group("2a01:4f9::1"));
        assert_eq!(group("::ffff:8.8.1.1"), group("8.8.200.9"));
    }

    #[test]
    fn a_site_of_its_own_is_none() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert_eq!(group(ip), None, "{ip}");
        }
    }
}
