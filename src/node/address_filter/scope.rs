//! How far addresses reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::direct_host;

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// This machine.
    Loopback,
    /// This network segment.
    LinkLocal,
    /// This site: RFC 1918, RFC 6598 and unique local addresses.
    Private,
    /// RFC 5737, RFC 3849 and RFC 2544: no real network has them.
    Documentation,
    /// The internet.
    Public,
    /// No host: multicast, broadcast, unspecified and reserved addresses.
    Nowhere,
}

impl Scope {
    /// The scope of an address of the peer protocol's own network.
    pub(crate) fn of_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::of_ip4(ip),
            IpAddr::V6(ip) => Self::of_ip6(ip),
        }
    }

    fn of_ip4(ip: Ipv4Addr) -> Self {
        match ip.octets() {
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            // RFC 6598: behind the NAT of a provider.
            [100, second, ..] if second & 0xc0 == 64 => Self::Private,
            [198, 18 | 19, ..] => Self::Documentation,
            _ if ip.is_private() => Self::Private,
            _ if ip.is_documentation() => Self::Documentation,
            [0 | 224.., ..] => Self::Nowhere,
            _ => Self::Public,
        }
    }

    fn of_ip6(ip: Ipv6Addr) -> Self {
        let embedded = |high: u16, low: u16| {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Self::of_ip4(Ipv4Addr::new(a, b, c, d))
        };
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // Mapped, NAT64 and 6to4: packets go to the IPv4 address inside.
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                embedded(high, low)
            }
            [0x2002, high, low, ..] => embedded(high, low),
            [0, 0, 0, 0, 0, 0, ..] => Self::Nowhere,
            [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => Self::Documentation,
            [first, ..] if first & 0xfe00 == 0xfc00 => Self::Private,
            [first, ..] if first & 0xffc0 == 0xfe80 => Self::LinkLocal,
            [first, ..] if first & 0xff00 == 0xff00 => Self::Nowhere,
            _ => Self::Public,
        }
    }

    /// The scope of a peer that is met at `remote`. Where it really is remains unknown behind a
    /// relay, so it counts as far away.
    pub(crate) fn of_teller(remote: &Multiaddr) -> Self {
        direct_host(remote).map_or(Self::Public, Self::of_ip)
    }

    /// The scope of the host that `address` begins with, public if that is a name.
    pub(crate) fn of_address(address: &Multiaddr) -> Self {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) => Self::of_ip4(ip),
            Some(Protocol::Ip6(ip)) => Self::of_ip6(ip),
            _ => Self::Public,
        }
    }

    /// The one of two tellers that may name less.
    pub(in super::super) fn farther(self, other: Self) -> Self {
        let distance = |scope| match scope {
            Self::Loopback => 0,
            Self::LinkLocal => 1,
            Self::Private => 2,
            Self::Documentation => 3,
            Self::Public | Self::Nowhere => 4,
        };
        if distance(other) > distance(self) {
            other
        } else {
            self
        }
    }

    /// Whether a teller of this scope may name the hosts of `address`. Names other than those of
    /// this machine are admitted; the addresses that they resolve to are to be checked again.
    pub(crate) fn admits(self, address: &Multiaddr) -> bool {
        address.iter().all(|part| match part {
            Protocol::Ip4(ip) => self.admits_scope(Self::of_ip4(ip)),
            Protocol::Ip6(ip) => self.admits_scope(Self::of_ip6(ip)),
            Protocol::Dns(name)
            | Protocol::Dns4(name)
            | Protocol::Dns6(name)
            | Protocol::Dnsaddr(name) => {
                !is_this_machine(&name) || self.admits_scope(Self::Loopback)
            }
            _ => true,
        })
    }

    fn admits_scope(self, named: Self) -> bool {
        match named {
            Self::Public => true,
            Self::Nowhere => false,
            Self::Private => matches!(self, Self::Private | Self::LinkLocal | Self::Loopback),
            Self::LinkLocal => matches!(self, Self::LinkLocal | Self::Loopback),
            Self::Loopback | Self::Documentation => self == named,
        }
    }
}

/// RFC 6761: `localhost` and all names below it.
fn is_this_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}
