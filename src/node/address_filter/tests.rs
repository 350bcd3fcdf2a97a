use std::net::Ipv4Addr;

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
