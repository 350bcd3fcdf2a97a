//! Which addresses are taken from others.
//!
//! What identify, the DHT, pubsub or a `/dnsaddr` record says of where peers are makes this host
//! open connections. Without a filter a stranger could make it talk to any service that it can
//! reach, with text of the stranger's choice where an address carries text. So an address is
//! checked before it is remembered, and what a name resolves to is checked before it is dialed.
//! Addresses that a local client passes to CONNECT are not subject to this filter.

use std::{
    collections::{HashSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use parking_lot::Mutex;

/// Ports below this one belong to services of the system.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Hosts remembered from which a peer has identified itself (SECURITY.md 3). The oldest is
/// forgotten first.
const MAX_HOSTS: usize = 4096;

/// Longest host name, in bytes (RFC 1035).
const MAX_HOST_NAME: usize = 253;

/// Whether `address`, which the peer at `teller` told, may be remembered and dialed.
///
/// * Components that carry text have no characters but visible ASCII ones, and a websocket's path
///   is `/`: the library writes both into its HTTP request.
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
    pub(super) fn of_address(address: &Multiaddr) -> Self {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) => Self::of_ip4(ip),
            Some(Protocol::Ip6(ip)) => Self::of_ip6(ip),
            _ => Self::Public,
        }
    }

    /// The one of two tellers that may name less.
    pub(super) fn farther(self, other: Self) -> Self {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// Whether a teller at the first address may name the second.
    fn ok(teller: &str, address: &str) -> bool {
        admits(&addr(teller), &addr(address))
    }

    const PUBLIC: &str = "/ip4/9.9.9.9/tcp/4001";
    const SITE: &str = "/ip4/10.0.0.1/tcp/4001";
    const LOCAL: &str = "/ip4/127.0.0.1/tcp/4001";

    #[test]
    fn hosts_near_by_are_named_by_those_near_by() {
        for far in [
            "/ip4/8.8.8.8/tcp/4001",
            "/ip6/2600::1/udp/4001/quic-v1",
            "/dns4/example.org/tcp/4001",
            "/dnsaddr/example.org",
        ] {
            assert!(ok(PUBLIC, far) && ok(SITE, far) && ok(LOCAL, far), "{far}");
        }
        for site in [
            "/ip4/192.168.1.1/tcp/4001",
            "/ip4/100.64.0.1/tcp/4001",
            "/ip6/fd00::1/tcp/4001",
            "/ip6/::ffff:10.0.0.1/tcp/4001",
            "/ip6/64:ff9b::10.0.0.1/tcp/4001",
            "/ip6/2002:a00:1::1/tcp/4001",
        ] {
            assert!(!ok(PUBLIC, site), "{site}");
            assert!(ok(SITE, site) && ok(LOCAL, site), "{site}");
        }
        for local in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/127.9.9.9/tcp/4001",
            "/ip6/::1/tcp/4001",
            "/ip6/::ffff:127.0.0.1/tcp/4001",
            "/dns/localhost/tcp/4001",
            "/dns4/LocalHost./tcp/4001",
            "/dns4/a.localhost/tcp/4001/ws",
            "/dns4/example.org/tcp/1/ip4/127.0.0.1/tcp/4001",
        ] {
            assert!(!ok(PUBLIC, local) && !ok(SITE, local), "{local}");
            assert!(ok(LOCAL, local), "{local}");
        }
        let relayed = format!("{LOCAL}/p2p/{}/p2p-circuit", libp2p::PeerId::random());
        assert!(!ok(&relayed, LOCAL) && !ok(&relayed, SITE));
        assert!(ok("/ip4/203.0.113.1/tcp/1", "/ip4/198.51.100.1/tcp/4001"));
        assert!(!ok(PUBLIC, "/ip4/198.51.100.1/tcp/4001"));
        assert!(!ok(PUBLIC, "/ip6/2001:db8::1/tcp/4001"));
        assert!(!ok(SITE, "/ip4/169.254.1.1/tcp/4001") && !ok(SITE, "/ip6/fe80::1/tcp/4001"));
    }

    #[test]
    fn addresses_of_no_host_are_never_admitted() {
        for nowhere in [
            "/ip4/0.0.0.0/tcp/4001",
            "/ip4/224.0.0.1/udp/4001/quic-v1",
            "/ip4/255.255.255.255/udp/4001/quic-v1",
            "/ip6/::/tcp/4001",
            "/ip6/ff02::1/udp/4001/quic-v1",
            "/memory/1",
            "/unix/run%2Fx",
            "/p2p-circuit",
        ] {
            for teller in [PUBLIC, SITE, LOCAL] {
                assert!(!ok(teller, nowhere), "{teller} {nowhere}");
            }
        }
        assert!(!admits(&addr(LOCAL), &Multiaddr::empty()));
    }

    #[test]
    fn nobody_smuggles_text() {
        let with = |part: Protocol<'_>| addr(LOCAL).with(part);
        assert!(admits(&addr(LOCAL), &with(Protocol::Ws("/".into()))));
        for part in [
            Protocol::Ws("/x".into()),
            Protocol::Wss("/ HTTP/1.1\r\nPOST /".into()),
            Protocol::Dns("a\r\nb".into()),
            Protocol::Dns4("".into()),
            Protocol::Sni("a b".into()),
            Protocol::HttpPath("a\nb".into()),
        ] {
            assert!(!admits(&addr(LOCAL), &with(part.clone())), "{part:?}");
        }
    }

    #[test]
    fn services_of_the_system_are_dialed_where_a_peer_was_met() {
        let service = "/ip4/8.8.8.8/tcp/443/tls/ws";
        assert!(!ok(PUBLIC, service));
        assert!(ok("/ip4/8.8.8.8/tcp/9", service));
        let filter = AddressFilter::default();
        assert!(!filter.admits(&addr(PUBLIC), &addr(service)));
        filter.identified(&addr("/ip4/8.8.8.8/udp/4001/quic-v1"));
        assert!(filter.admits(&addr(PUBLIC), &addr(service)));
        for number in 0..2 * u32::try_from(MAX_HOSTS).unwrap() {
            let host = Ipv4Addr::from(0x0900_0000 + number);
            filter.identified(&Multiaddr::from(host));
        }
        assert!(filter.hosts.lock().known.len() <= MAX_HOSTS);
        assert!(!filter.admits(&addr(PUBLIC), &addr(service)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(address) = Multiaddr::try_from(bytes) {
                let _ = admits(&addr(PUBLIC), &address);
            }
        }

        #[test]
        fn a_path_is_never_admitted(path in "\\PC{1,20}") {
            prop_assume!(path != "/");
            let address = addr(LOCAL).with(Protocol::Ws(path.into()));
            let bytes = address.to_vec();
            // As it comes over the wire.
            if let Ok(address) = Multiaddr::try_from(bytes) {
                prop_assert!(!admits(&addr(LOCAL), &address));
            }
        }
    }
}
