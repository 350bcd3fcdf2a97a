//! AutoNAT between two daemons, and askers with bad intentions.

use std::io::{Read as _, Write as _};

use libp2p::{Multiaddr, PeerId};

use super::*;
use crate::support::{
    PATIENCE, eventually,
    lab::Lab,
    metrics::{samples, value},
    raw,
};

const PROTOCOL: &str = "/libp2p/autonat/1.0.0";

const SERVER: &str = "/ip4/60.0.1.1/tcp/4001";

fn connect(from: &Daemon, to: &Daemon, address: &str) {
    let address = address.parse().expect("an address");
    from.client().connect_peer(to.peer_id(), &[address]);
}

/// A request to be dialed at `addresses`.
fn request(peer: PeerId, addresses: &[&str]) -> Vec<u8> {
    let addresses = addresses.iter().flat_map(|text| {
        let address: Multiaddr = text.parse().expect("an address");
        raw::bytes(2, &address.to_vec())
    });
    let info: Vec<u8> = raw::bytes(1, &peer.to_bytes())
        .into_iter()
        .chain(addresses)
        .collect();
    let dial = raw::bytes(2, &raw::bytes(1, &info));
    raw::frame(&[raw::int(1, 0), dial].concat())
}

/// What `server` answers `asker`, without the length. Empty if it resets.
fn ask(asker: &Daemon, server: &Daemon, request: &[u8]) -> Vec<u8> {
    let client = asker.client();
    let (_, mut pipe) = client
        .open_stream(server.peer_id(), &[PROTOCOL])
        .expect("a stream");
    let mut answer = Vec::new();
    // It may be reset while it is being written.
    let _ = pipe.write_all(request);
    let _ = pipe.socket.shutdown_write();
    let _ = pipe.read_to_end(&mut answer);
    answer
}

/// The status in an answer: type 1, then the response with its status first.
fn status(answer: &[u8]) -> Option<u64> {
    let rest = answer.get(1..)?.strip_prefix(&[0x08, 1, 0x1a])?;
    let rest = rest.get(1..)?.strip_prefix(&[0x08])?;
    Some(match rest {
        [low, high, ..] if low & 0x80 != 0 => u64::from(low & 0x7f) | u64::from(*high) << 7,
        [low, ..] => u64::from(*low),
        [] => return None,
    })
}

/// What `/metrics` on port 8888 of `host` says.
fn scraped(host: &Host) -> String {
    let script = r#"exec 3<>/dev/tcp/127.0.0.1/8888
        printf 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n' >&3; cat <&3"#;
    let output = host.command("bash").args(["-c", script]).output();
    let text = String::from_utf8(output.expect("bash").stdout).expect("text");
    let (_, body) = text.split_once("\r\n\r\n").expect("an answer");
    body.to_owned()
}

#[test]
fn a_public_node_is_found_public_and_nobody_sees_the_dial() {
    let Some(lab) = Lab::new() else { return };
    let (far, near) = (lab.host("60.0.1.1/16"), lab.host("60.0.2.1/16"));
    let server = on(&far, &["-autonat"]);
    let node = on(&near, &["-dht", "-metricsAddr=127.0.0.1:8888"]);
    connect(&node, &server, SERVER);
    let public = eventually(PATIENCE, || node.stderr().contains("Public"));
    assert!(public, "{}", node.stderr());
    let told = samples(&scraped(&near));
    let ok = [("response_status", "ok")];
    let status = "libp2p_autonat_reachability_status";
    assert!(value(&told, "libp2p_autonat_received_dial_response_total", &ok) >= 1.0);
    assert_eq!(value(&told, status, &[]), 1.0);
    // It grows with the next answer, a minute and a half later.
    let confidence = "libp2p_autonat_reachability_status_confidence";
    assert!(
        told.iter()
            .any(|(name, _, value)| name == confidence && *value == 0.0)
    );
    let peers = server.client().list_peers();
    assert_eq!(peers.len(), 1, "{peers:?}");
    assert_eq!(peers[0].1.len(), 1, "{peers:?}");
}

#[test]
fn a_node_behind_a_nat_is_found_private_and_tells_no_public_address() {
    let Some(lab) = Lab::new() else { return };
    let far = lab.host("60.0.1.1/16");
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let server = on(&far, &["-autonat", "-relay=0"]);
    let announced = ["/ip4/9.9.9.9/tcp/1", "/ip4/192.168.7.7/tcp/2"];
    let announce = format!("-announceAddrs={}", announced.join(","));
    let node = on(&inside, &["-dhtClient", "-autoRelay", &announce]);
    assert_eq!(told(&node), announced);
    connect(&node, &server, SERVER);
    let hidden = eventually(VERDICT, || told(&node) == announced[1..]);
    assert!(hidden, "{:?} {}", told(&node), node.stderr());
    // Lines are written by a thread of their own.
    let logged = eventually(PATIENCE, || node.stderr().contains("Private"));
    assert!(logged, "{}", node.stderr());
}

/// The word of the operator holds, and a node that is forced private answers nobody.
#[test]
fn a_forced_reachability_asks_nobody_and_decides_who_is_answered() {
    let Some(lab) = Lab::new() else { return };
    let (far, near) = (lab.host("60.0.1.1/16"), lab.host("60.0.2.1/16"));
    let speaks = |flags: &[&str]| {
        let server = on(&far, flags);
        let asker = on(&near, &["-forceReachabilityPublic"]);
        connect(&asker, &server, SERVER);
        let opened = asker.client().open_stream(server.peer_id(), &[PROTOCOL]);
        (opened.is_ok(), asker.stderr())
    };
    let (served, heard) = speaks(&["-autonat", "-forceReachabilityPublic"]);
    assert!(served);
    assert!(!heard.contains("reachability"), "{heard}");
    assert!(!speaks(&["-autonat", "-forceReachabilityPrivate"]).0);
    assert!(!speaks(&[]).0);
}

#[test]
fn nobody_but_the_asker_is_dialed_however_often_it_asks() {
    let Some(lab) = Lab::new() else { return };
    let (far, near, third) = (
        lab.host("60.0.1.1/16"),
        lab.host("60.0.2.1/16"),
        lab.host("60.0.3.1/16"),
    );
    let server = on(&far, &["-autonat", "-forceReachabilityPublic"]);
    let asker = on(&near, &["-forceReachabilityPublic"]);
    let victim = on(&third, &[]);
    connect(&asker, &server, SERVER);
    let bad_peer = request(victim.peer_id(), &["/ip4/60.0.3.1/tcp/4001"]);
    assert_eq!(status(&ask(&asker, &server, &bad_peer)), Some(200));
    // Cut, oversized, of another kind, empty.
    let whole = request(asker.peer_id(), &["/ip4/60.0.3.1/tcp/4001"]);
    let answer = raw::frame(&raw::int(1, 1));
    let oversized = raw::frame(&vec![0; 5000]);
    for broken in [&whole[..whole.len() - 3], &oversized, &answer, &[]] {
        assert_eq!(ask(&asker, &server, broken), b"", "{broken:?}");
    }
    // The dials are counted for a minute.
    let mut statuses: Vec<u64> = Vec::new();
    for _ in 0..200 {
        statuses.extend(status(&ask(&asker, &server, &whole)));
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    let (dialed, refused) = (count(0), count(101));
    assert_eq!(dialed + refused, 200, "{statuses:?}");
    assert!((3..=6).contains(&dialed), "{dialed} dials");
    let segments = third.command("cat").arg("/proc/net/snmp").output();
    let segments = String::from_utf8(segments.expect("cat").stdout).expect("text");
    let opened: Vec<_> = segments
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp: "))
        .filter_map(|line| line.split(' ').nth(5))
        .collect();
    assert_eq!(opened, ["PassiveOpens", "0"], "somebody has dialed");
}

/// On a private network nobody is dialed at all.
#[test]
fn a_near_asker_is_refused() {
    let node = |flags: &[&str]| {
        Launch::new()
            .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
            .args(flags.iter().copied())
            .spawn()
    };
    let (server, asker) = (node(&["-autonat"]), node(&[]));
    asker.connect_to(&server);
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("non-blocking");
    let port = trap.local_addr().expect("an address").port();
    let named = format!("/ip4/127.0.0.1/tcp/{port}");
    let request = request(asker.peer_id(), &[&named]);
    for _ in 0..20 {
        assert_eq!(status(&ask(&asker, &server, &request)), Some(101));
    }
    assert!(trap.accept().is_err(), "somebody has dialed");
}

/// Counts what the kernel of a host sends out to begin connections.
const COUNT: &str = "nft -f - <<'RULES'
table ip count {
  counter asker {}
  counter others {}
  chain out {
    type filter hook output priority 0
    ip daddr 60.0.2.1 tcp flags & (syn | ack) == syn counter name asker
    ip daddr != 60.0.2.1 tcp flags & (syn | ack) == syn counter name others
    ip daddr != 60.0.2.1 meta l4proto udp counter name others
  }
}
RULES";

/// A stranger names the server's own network, the server itself, and third parties.
#[test]
fn a_public_asker_has_nobody_dialed_but_itself() {
    let Some(lab) = Lab::new() else { return };
    let (far, near) = (lab.host("60.0.1.1/16"), lab.host("60.0.2.1/16"));
    far.run("ip addr add 10.5.0.1/8 dev lo");
    far.run(COUNT);
    let counted = |name: &str| -> u64 {
        let list = ["list", "counter", "ip", "count", name];
        let output = far.command("nft").args(list).output().expect("nft");
        let text = String::from_utf8(output.stdout).expect("text");
        let (_, packets) = text.split_once("packets ").expect("a counter");
        let number = packets.split(' ').next().expect("a number");
        number.parse().expect("a number")
    };
    let server = on(&far, &["-autonat", "-forceReachabilityPublic"]);
    let asker = on(&near, &["-forceReachabilityPublic"]);
    connect(&asker, &server, SERVER);
    let relay = PeerId::random();
    let by_relay = format!("/ip4/60.0.3.1/tcp/4001/p2p/{relay}/p2p-circuit");
    let named = [
        "/ip4/10.5.0.1/tcp/4001",
        "/ip4/10.5.0.2/tcp/4001",
        "/ip4/192.168.1.1/tcp/4001",
        "/ip4/169.254.1.1/tcp/4001",
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/60.0.1.1/tcp/4001",
        "/ip4/60.0.3.1/tcp/4001",
        "/ip4/60.0.3.1/udp/4001/quic-v1",
        "/ip4/224.0.0.1/tcp/4001",
        "/ip4/255.255.255.255/tcp/4001",
        "/ip6/::1/tcp/4001",
        "/ip6/fd00::1/tcp/4001",
        "/dns4/localhost/tcp/4001",
        "/dnsaddr/localhost",
        &by_relay,
    ];
    // One by one and all at once, as often as the server dials for one peer in a minute.
    for named in [&named[..5], &named[5..], &named] {
        let answer = ask(&asker, &server, &request(asker.peer_id(), named));
        assert_eq!(status(&answer), Some(0), "{named:?}");
    }
    assert!(counted("asker") > 0, "nobody was dialed");
    assert_eq!(counted("others"), 0);
}
