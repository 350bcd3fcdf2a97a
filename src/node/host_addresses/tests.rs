use std::time::{Duration, Instant};

use libp2p::{
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::ConnectionId,
};

use super::{observed::Observed, *};

const LISTENED: [&str; 3] = [
    "/ip4/127.0.0.1/tcp/4001",
    "/ip4/192.168.10.2/tcp/4001",
    "/ip4/192.168.10.2/tcp/4001/ws",
];
const PUBLIC: &str = "/ip4/60.0.10.1/tcp/4101";

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn listened() -> Vec<Multiaddr> {
    LISTENED.iter().map(|text| addr(text)).collect()
}

fn dialed(remote: &str) -> ConnectedPoint {
    ConnectedPoint::Dialer {
        address: addr(remote),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    }
}

/// Each peer dialed sees this host at the address beside it.
fn seen(peers: &[(&str, &str)]) -> Observed {
    let mut observed = Observed::default();
    for (number, (remote, at)) in peers.iter().enumerate() {
        let id = ConnectionId::new_unchecked(number);
        observed.connected(id, &dialed(remote), &listened());
        observed.told(id, &addr(at));
    }
    observed
}

fn told(addresses: &HostAddresses) -> Vec<String> {
    addresses.get().iter().map(ToString::to_string).collect()
}

#[test]
fn an_address_that_four_hosts_see_is_told() {
    let peers: Vec<String> = (1..=4)
        .map(|host| format!("/ip4/60.0.{host}.1/tcp/1"))
        .collect();
    let peers: Vec<_> = peers.iter().map(|peer| (peer.as_str(), PUBLIC)).collect();
    let host = HostAddresses::new(&[], Reach::Unknown, true);
    host.set_listened(listened());
    host.set_observed(seen(&peers[..3]).count());
    assert_eq!(told(&host), LISTENED);
    assert_eq!(host.observed(1), [addr(PUBLIC)]);
    host.set_observed(seen(&peers).count());
    let websocket = format!("{PUBLIC}/ws");
    assert_eq!(
        told(&host),
        [&[PUBLIC, &websocket][..], &LISTENED[..]].concat()
    );
}

#[test]
fn own_addresses_are_in_the_order_of_their_bytes() {
    let sorted = [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/127.0.0.1/udp/4001/quic-v1",
        "/ip4/192.168.10.2/tcp/4001",
        "/ip4/192.168.10.2/udp/4001/quic-v1",
        "/ip6/::1/tcp/4001",
    ];
    let host = HostAddresses::new(&[], Reach::Unknown, true);
    host.set_listened(sorted.iter().rev().map(|text| addr(text)).collect());
    assert_eq!(told(&host), sorted);
    // What an operator announces stays as it is.
    let announced = [addr(sorted[3]), addr(sorted[0])];
    host.set_announced(announced.to_vec());
    assert_eq!(*host.get(), announced);
}

#[test]
fn one_host_counts_once() {
    let many = [("/ip4/60.0.1.1/tcp/1", PUBLIC); 9];
    assert_eq!(seen(&many).count()[0].observers, 1);
    let changes = [
        ("/ip4/60.0.1.1/tcp/1", PUBLIC),
        ("/ip4/60.0.1.1/tcp/2", "/ip4/60.0.10.1/tcp/4102"),
    ];
    assert_eq!(seen(&changes).count().len(), 1);
}

#[test]
fn what_is_no_public_address_of_a_listener_is_not_heard() {
    let cases = [
        // Peers near by see no public address.
        ("/ip4/192.168.10.1/tcp/1", PUBLIC),
        ("/ip4/60.0.1.1/tcp/1", "/ip4/192.168.10.2/tcp/4001"),
        ("/ip4/60.0.1.1/tcp/1", "/ip4/127.0.0.1/tcp/4001"),
        ("/ip4/60.0.1.1/tcp/1", "/ip4/60.0.10.1/udp/4101/quic-v1"),
        ("/ip4/60.0.1.1/tcp/1", "/ip6/2600::1/tcp/4101"),
        ("/ip4/60.0.1.1/tcp/1", "/ip4/60.0.10.1/tcp/0"),
        ("/ip4/60.0.1.1/tcp/1", "/p2p-circuit"),
        // Nothing listens on quic.
        (
            "/ip4/60.0.1.1/udp/1/quic-v1",
            "/ip4/60.0.10.1/udp/4101/quic-v1",
        ),
    ];
    for case in cases {
        assert_eq!(seen(&[case]).count(), [], "{case:?}");
    }
    let mut observed = Observed::default();
    let id = ConnectionId::new_unchecked(1);
    let endpoint = ConnectedPoint::Listener {
        local_addr: addr("/ip4/192.168.10.2/tcp/9"),
        send_back_addr: addr("/ip4/60.0.1.1/tcp/1"),
    };
    observed.connected(id, &endpoint, &listened());
    assert!(!observed.told(id, &addr(PUBLIC)));
}

#[test]
fn reports_expire_and_are_bounded() {
    let mut observed = seen(&[("/ip4/60.0.1.1/tcp/1", PUBLIC)]);
    let later = Instant::now() + Duration::from_secs(41 * 60);
    observed.refresh(later);
    assert_eq!(observed.count().len(), 1, "the connection is open");
    observed.closed(ConnectionId::new_unchecked(0));
    observed.refresh(later);
    assert_eq!(observed.count(), []);
    let peers: Vec<String> = (0..3000)
        .map(|host| format!("/ip4/60.{}.{}.1/tcp/1", host / 200 + 1, host % 200))
        .collect();
    let peers: Vec<_> = peers.iter().map(|peer| (peer.as_str(), PUBLIC)).collect();
    assert_eq!(seen(&peers).count()[0].observers, 1024);
}

#[test]
fn a_private_host_tells_circuits_instead_of_public_addresses() {
    let circuit = addr("/ip4/60.0.2.1/tcp/4001/p2p-circuit");
    let announce = [
        addr("/ip4/9.9.9.9/tcp/1"),
        addr("/ip4/192.168.7.7/tcp/2"),
        addr("/dns4/example.org/tcp/1"),
    ];
    let host = HostAddresses::new(&announce, Reach::Unknown, true);
    host.set_circuits(vec![circuit.clone(); 3]);
    assert_eq!(*host.get(), announce);
    host.set_reach(Reach::Private);
    assert_eq!(*host.get(), [announce[1].clone(), circuit.clone()]);
    host.set_announced(Vec::new());
    assert_eq!(*host.get(), [circuit]);
    host.set_reach(Reach::Public);
    assert!(host.get().is_empty());
    // Without autorelay nothing would be told instead.
    let host = HostAddresses::new(&announce, Reach::Private, false);
    assert_eq!(*host.get(), announce);
    let many: Vec<Multiaddr> = (1..=100)
        .map(|port| addr(&format!("/ip4/60.0.2.1/tcp/{port}/p2p-circuit")))
        .collect();
    let host = HostAddresses::new(&[], Reach::Private, true);
    host.set_circuits(many);
    assert_eq!(host.get().len(), MAX_CIRCUITS);
}

#[test]
fn a_change_wakes_nobody_if_nothing_is_told_anew() {
    let host = HostAddresses::new(&[], Reach::Unknown, false);
    let mut watch = host.subscribe();
    host.set_listened(listened());
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    host.set_listened(listened());
    host.set_circuits(vec![addr("/p2p-circuit")]);
    host.set_reach(Reach::Private);
    assert!(!watch.has_changed().unwrap());
}
