use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> String {
    ControlAddr::parse(text).unwrap_err().to_string()
}

fn refused_host(text: &str) -> String {
    parse_multiaddr(text).unwrap_err().to_string()
}

#[test]
fn control_addresses_read_and_print() {
    let unix = ControlAddr::Unix("/tmp/x.sock".into());
    for text in [
        "/unix/tmp/x.sock",
        "/unix//tmp/x.sock",
        "/unix/tmp/x.sock//",
    ] {
        assert_eq!(ControlAddr::parse(text).unwrap(), unix, "{text}");
    }
    assert_eq!(unix.to_string(), "/unix/tmp/x.sock");
    assert_eq!(unix.to_bytes(), b"\x90\x03\x0b/tmp/x.sock");

    let tcp = ControlAddr::Tcp {
        host: Host::Ip4(Ipv4Addr::LOCALHOST),
        port: 1,
    };
    for text in [
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/ip4/127.0.0.1/tcp/1/",
    ] {
        assert_eq!(ControlAddr::parse(text).unwrap(), tcp, "{text}");
    }
    assert_eq!(tcp.to_bytes(), [4, 127, 0, 0, 1, 6, 0, 1]);
    for text in [
        "/ip6/::1/tcp/0",
        "/dns/a/tcp/1",
        "/dns4/a/tcp/1",
        "/dns6/a/tcp/65535",
    ] {
        assert_eq!(ControlAddr::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_path_need_not_be_utf8() {
    let addr = ControlAddr::from_bytes(b"\x90\x03\x03/\xffx").unwrap();
    assert_eq!(addr, ControlAddr::Unix(OsStr::from_bytes(b"/\xffx").into()));
    assert_eq!(addr.to_bytes(), b"\x90\x03\x03/\xffx");
}

/// The right-hand sides were printed by the Go daemon (fork, v0.5.0.hivemind1).
#[test]
fn refusals_are_worded_as_in_go() {
    assert_eq!(
        refused("x"),
        r#"failed to parse multiaddr "x": must begin with /"#
    );
    assert_eq!(
        refused(""),
        r#"failed to parse multiaddr "": empty multiaddr"#
    );
    assert_eq!(
        refused("//"),
        r#"failed to parse multiaddr "": empty multiaddr"#
    );
    assert_eq!(
        refused("/unix"),
        r#"failed to parse multiaddr "/unix": unexpected end of multiaddr"#
    );
    assert_eq!(
        refused("/foo/1"),
        r#"failed to parse multiaddr "/foo/1": unknown protocol foo"#
    );
    assert_eq!(refused("/ip4/127.0.0.1"), "listen ip4: unknown network ip4");
    assert_eq!(
        refused("/ip4/127.0.0.1/udp/0"),
        "listen udp4 127.0.0.1:0: address 127.0.0.1:0: unexpected address type"
    );
    assert_eq!(refused("/tcp/1"), "/tcp/1 is not a 'thin waist' address");
    assert_eq!(
        refused("/dnsaddr/x/tcp/1"),
        "/dnsaddr/x/tcp/1 is not a 'thin waist' address"
    );
    assert_eq!(
        refused_host("/ip4/1.2.3"),
        r#"failed to parse multiaddr "/ip4/1.2.3": invalid value "1.2.3" for protocol ip4: failed to parse ip4 addr: 1.2.3"#
    );
    assert_eq!(
        refused_host("/ip4/127.0.0.1/tcp/99999"),
        r#"failed to parse multiaddr "/ip4/127.0.0.1/tcp/99999": invalid value "99999" for protocol tcp: failed to parse port addr: greater than 65536"#
    );
    assert_eq!(
        refused_host("/ip4/127.0.0.1/tcp/abc"),
        r#"failed to parse multiaddr "/ip4/127.0.0.1/tcp/abc": invalid value "abc" for protocol tcp: failed to parse port addr: strconv.Atoi: parsing "abc": invalid syntax"#
    );
    assert_eq!(
        refused_host("/ip4/127.0.0.1/tcp/18446744073709551616"),
        r#"failed to parse multiaddr "/ip4/127.0.0.1/tcp/18446744073709551616": invalid value "18446744073709551616" for protocol tcp: failed to parse port addr: strconv.Atoi: parsing "18446744073709551616": value out of range"#
    );
    assert_eq!(
        refused_host("/ip4/127.0.0.1//tcp/1"),
        r#"failed to parse multiaddr "/ip4/127.0.0.1//tcp/1": unknown protocol "#
    );
    assert_eq!(
        refused_host("/ip4/127.0.0.1/tcp/1/p2p/xyz"),
        r#"failed to parse multiaddr "/ip4/127.0.0.1/tcp/1/p2p/xyz": invalid value "xyz" for protocol p2p: failed to parse p2p addr: xyz invalid cid: selected encoding not supported"#
    );
    assert_eq!(
        refused_host("/p2p/12D3KooW"),
        r#"failed to parse multiaddr "/p2p/12D3KooW": invalid value "12D3KooW" for protocol p2p: failed to parse p2p addr: 12D3KooW length greater than remaining number of bytes in buffer"#
    );
    assert_eq!(
        refused_host("/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5"),
        "failed to parse multiaddr \"/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5\": invalid value \
         \"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5\" for protocol p2p: failed to parse p2p addr: \
         QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5 multihash length inconsistent: expected 2; got 4"
    );
}

#[test]
fn refusals_of_bytes_are_worded_as_in_go() {
    let text = |bytes: &[u8]| multiaddr_from_bytes(bytes).unwrap_err().to_string();
    assert_eq!(text(b""), "empty multiaddr");
    assert_eq!(text(b"\xff"), "varints malformed, could not reach the end");
    assert_eq!(text(b"\x7f"), "no protocol with code 127");
    assert_eq!(text(b"\x04\x7f\x00"), "invalid value for size 2");
    let control = |bytes: &[u8]| ControlAddr::from_bytes(bytes).unwrap_err().to_string();
    assert_eq!(control(b""), "empty multiaddr");
    assert_eq!(
        control(b"\x90"),
        "varints malformed, could not reach the end"
    );
    assert_eq!(control(b"\x90\x03\x05/x"), "invalid value for size 2");
    assert_eq!(control(b"\x90\x03\x01/"), "unix address without a path");
}

#[test]
fn a_peer_id_may_be_a_cid() {
    let base58 = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
    let peer: libp2p::PeerId = base58.parse().unwrap();
    let cid = [&[1, 0x72][..], &peer.to_bytes()].concat();
    let cid = multibase::encode(multibase::Base::Base36Lower, cid);
    let addr = parse_multiaddr(&format!("/dns4/a/tcp/1/p2p/{cid}")).unwrap();
    assert_eq!(addr.to_string(), format!("/dns4/a/tcp/1/p2p/{base58}"));
    assert_eq!(
        parse_multiaddr(&format!("/ipfs/{base58}"))
            .unwrap()
            .to_string(),
        format!("/p2p/{base58}")
    );
}

fn control_addr() -> impl Strategy<Value = ControlAddr> {
    let host = prop_oneof![
        any::<Ipv4Addr>().prop_map(Host::Ip4),
        any::<Ipv6Addr>().prop_map(Host::Ip6),
        "[a-z0-9.-]{1,20}".prop_map(Host::Dns),
        "[a-z0-9.-]{1,20}".prop_map(Host::Dns4),
        "[a-z0-9.-]{1,20}".prop_map(Host::Dns6),
    ];
    prop_oneof![
        // No slash at either end: text form and path would otherwise be normalised.
        "[^/\0]([^\0]{0,60}[^/\0])?".prop_map(|path| ControlAddr::Unix(format!("/{path}").into())),
        (host, any::<u16>()).prop_map(|(host, port)| ControlAddr::Tcp { host, port }),
    ]
}

proptest! {
    #[test]
    fn control_addresses_survive_text_and_bytes(addr in control_addr()) {
        prop_assert_eq!(&ControlAddr::parse(&addr.to_string()).unwrap(), &addr);
        prop_assert_eq!(&ControlAddr::from_bytes(&addr.to_bytes()).unwrap(), &addr);
    }

    #[test]
    fn bytes_never_panic_and_what_is_read_prints(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(addr) = ControlAddr::from_bytes(&bytes) {
            prop_assert_eq!(ControlAddr::from_bytes(&addr.to_bytes()).unwrap(), addr);
        }
        if let Ok(addr) = multiaddr_from_bytes(&bytes) {
            prop_assert_eq!(addr.as_ref(), &bytes[..]);
            let _ = addr.to_string();
        }
    }

    #[test]
    fn mutated_addresses_never_panic(
        addr in control_addr(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = addr.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = ControlAddr::from_bytes(&bytes);
        bytes.truncate(at);
        let _ = ControlAddr::from_bytes(&bytes);
    }

    #[test]
    fn text_never_panics(text in "(/(ip4|ip6|tcp|udp|dns4|p2p|unix|ws|certhash|onion3|memory|[^/]{0,4})|/[^/]{0,12}){0,6}|.{0,40}") {
        if let Ok(addr) = parse_multiaddr(&text) {
            let _ = addr.to_string();
        }
        if let Ok(addr) = ControlAddr::parse(&text) {
            prop_assert_eq!(ControlAddr::parse(&addr.to_string()).unwrap(), addr);
        }
    }
}
