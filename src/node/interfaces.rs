//! The addresses of this host, and which of them wildcard listeners tell of.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// Addresses of the documentation ranges, on no host. A datagram socket that is connected to one
/// gets the source address of the default route. Nothing is sent.
const ELSEWHERE: [(SocketAddr, SocketAddr); 2] = [
    (
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    ),
    (
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            9,
        ),
    ),
];

/// The host's addresses by which the default routes lead, one per family at most.
pub(super) fn primary() -> Vec<IpAddr> {
    let source = |(own, other): &(SocketAddr, SocketAddr)| {
        let socket = UdpSocket::bind(own)?;
        socket.connect(other)?;
        socket.local_addr()
    };
    let sources = ELSEWHERE.iter().filter_map(|pair| source(pair).ok());
    sources
        .map(|address| address.ip())
        .filter(|ip| is_global_unicast(*ip))
        .collect()
}

/// What Go calls so: private addresses as well.
fn is_global_unicast(ip: IpAddr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether a wildcard listener tells of `ip`, as in go-libp2p: where there is a default route, of
/// the address that it leads from and of loopback, else of all; never of IPv6 link-local ones.
pub(super) fn is_told(ip: IpAddr, primary: &[IpAddr]) -> bool {
    let link_local = ip.is_ipv6() && is_link_local(ip);
    !link_local && (primary.is_empty() || ip.is_loopback() || primary.contains(&ip))
}

/// Every address of the host, by what the kernel's files tell: they can be read where its
/// interfaces cannot be watched.
///
/// # Errors
/// If the files cannot be read, as on systems other than Linux.
pub(crate) fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut found = ip4(&fs::read_to_string("/proc/net/fib_trie")?);
    // Not there on a kernel without IPv6.
    found.extend(ip6(
        &fs::read_to_string("/proc/net/if_inet6").unwrap_or_default()
    ));
    Ok(found)
}

/// Each local address is a leaf, followed by a line `/32 host LOCAL`.
fn ip4(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(ip) = line.strip_prefix("|-- ") {
            leaf = ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
        } else if line == "/32 host LOCAL"
            && let Some(ip) = leaf
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    found
}

/// One address a line, 32 hexadecimal digits at its beginning.
fn ip6(table: &str) -> Vec<IpAddr> {
    let number = |line: &str| u128::from_str_radix(line.get(..32)?, 16).ok();
    let numbers = table.lines().filter_map(number);
    numbers
        .map(|number| IpAddr::V6(Ipv6Addr::from_bits(number)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernels_files_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    |-- 127.0.0.0\n /8 host LOCAL\n |-- 127.0.0.1\n /32 host LOCAL\n\
                    |-- 10.0.0.255\n /32 link BROADCAST\n |-- 10.0.0.2\n /32 host LOCAL\n\
                    Local:\n |-- 127.0.0.1\n /32 host LOCAL\n";
        assert_eq!(ip4(trie), [ip("127.0.0.1"), ip("10.0.0.2")]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fd000000000000000000000000000002 04 40 00 82     eth0\nnonsense\n";
        assert_eq!(ip6(table), [ip("::1"), ip("fd00::2")]);
        assert!(ip4("").is_empty() && ip6("").is_empty());
    }

    #[test]
    fn bridges_and_link_local_addresses_are_not_told() {
        let all = ["127.0.0.1", "10.0.0.2", "172.17.0.1", "::1", "fd00::2"];
        for address in all {
            assert!(is_told(ip(address), &[]), "{address}");
        }
        let told = |address: &&&str| is_told(ip(address), &[ip("10.0.0.2")]);
        let told: Vec<_> = all.iter().filter(told).collect();
        assert_eq!(told, [&"127.0.0.1", &"10.0.0.2", &"::1"]);
        assert!(!is_told(ip("fe80::1"), &[]));
    }
}
