//! Whether a request names this host, and not a name that somebody made lead here.

use std::net::{IpAddr, Ipv6Addr};

/// Whether `host`, the header, is one under which this address may be asked for.
///
/// A page of a stranger can have its own name lead to 127.0.0.1, and then read the answers as its
/// own. It cannot make its name an ip address, `localhost`, or, where a network is served, a name
/// without a dot, as containers call each other.
pub(crate) fn is_own(host: Option<&[u8]>, loopback: bool) -> bool {
    let Some(host) = host.and_then(|host| std::str::from_utf8(host).ok()) else {
        return false;
    };
    let name = without_port(host);
    if let Some(ip) = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        return ip.parse::<Ipv6Addr>().is_ok();
    }
    if name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !loopback && !name.is_empty() && name.chars().all(plain)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_own() {
        let own = |host: &str, loopback| is_own(Some(host.as_bytes()), loopback);
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "localhost:1",
            "LocalHost",
            "10.0.0.1",
        ] {
            assert!(own(host, true) && own(host, false), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "",
            ":80",
            "[evil]",
            "a b",
        ] {
            assert!(!own(host, true) && !own(host, false), "{host}");
        }
        assert!(own("rp2pd:8888", false) && !own("rp2pd:8888", true));
        assert!(!is_own(None, false) && !is_own(Some(b"\xff"), false));
    }
}
