//! Which addresses identify tells whom.

use prost::Message;

use super::*;
use crate::support::lab::Lab;
use crate::support::relay::{HOP, Hop, OK, RESERVE, ask};

/// What is looked at of an identify message.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    observed: Option<Vec<u8>>,
}

fn text(bytes: &[u8]) -> String {
    let address = libp2p::Multiaddr::try_from(bytes.to_vec());
    address.expect("an address").to_string()
}

/// The addresses that `node` tells `peer`, sorted, and where it sees it.
fn tells(node: &Daemon, peer: &Daemon) -> (Vec<String>, String) {
    let client = peer.client();
    let opened = client.open_stream(node.peer_id(), &["/ipfs/id/1.0.0"]);
    let message = opened.expect("a stream").1.read_frame().expect("a message");
    let told = Told::decode(message).expect("identify");
    let mut addresses: Vec<String> = told.addresses.iter().map(|bytes| text(bytes)).collect();
    addresses.sort();
    (addresses, text(&told.observed.unwrap_or_default()))
}

/// go-libp2p's rule: loopback is for those who come by loopback.
#[test]
fn loopback_is_told_on_this_machine_alone() {
    let Some(lab) = Lab::new() else { return };
    let hosts = [1, 2, 3].map(|number| lab.host(&format!("60.0.{number}.1/16")));
    for (host, number) in hosts.iter().zip(1..) {
        host.run(&format!("ip addr add 192.168.9.{number}/24 dev wan"));
    }
    let node = on(&hosts[0], &[]);
    let all = [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/192.168.9.1/tcp/4001",
        "/ip4/60.0.1.1/tcp/4001",
    ];
    // On the same machine, on the same network, from anywhere.
    let near = hosts[0]
        .launch()
        .args(["-hostAddrs=/ip4/0.0.0.0/tcp/4002"])
        .spawn();
    let (lan, far) = (on(&hosts[1], &[]), on(&hosts[2], &[]));
    for (peer, at, expected) in [
        (&near, "/ip4/127.0.0.1/tcp/4001", &all[..]),
        (&lan, "/ip4/192.168.9.1/tcp/4001", &all[1..]),
        (&far, "/ip4/60.0.1.1/tcp/4001", &all[1..]),
    ] {
        let at = at.parse().expect("an address");
        peer.client().connect_peer(node.peer_id(), &[at]);
        assert_eq!(tells(&node, peer).0, expected);
        // Whoever has dialed tells by the same rule.
        let told = tells(peer, &node).0;
        let loopback = told.iter().any(|address| address.contains("127.0.0.1"));
        assert_eq!(loopback, expected.len() == 3, "{told:?}");
    }
}

/// Over a circuit too, and there each end sees the other at the circuit.
#[test]
fn over_a_circuit_loopback_is_not_told() {
    let Some(lab) = Lab::new() else { return };
    let hosts = [1, 2, 3].map(|number| lab.host(&format!("60.0.{number}.1/16")));
    let [relay, node, caller] = hosts.each_ref().map(|host| on(host, &[]));
    let at: libp2p::Multiaddr = "/ip4/60.0.1.1/tcp/4001".parse().expect("an address");
    node.client()
        .connect_peer(relay.peer_id(), std::slice::from_ref(&at));
    let (_, mut reservation) = node
        .client()
        .open_stream(relay.peer_id(), &[HOP])
        .expect("a stream");
    let request = Hop {
        kind: Some(RESERVE),
        ..Hop::default()
    };
    let answer: Hop = ask(&mut reservation, &request).expect("an answer");
    assert_eq!(answer.status, Some(OK));
    let circuit = format!("{at}/p2p/{}/p2p-circuit", relay.peer_id());
    let circuit: libp2p::Multiaddr = circuit.parse().expect("an address");
    caller
        .client()
        .connect_peer(node.peer_id(), std::slice::from_ref(&circuit));
    let (told, observed) = tells(&node, &caller);
    assert_eq!(told, ["/ip4/60.0.2.1/tcp/4001"]);
    assert_eq!(observed, circuit.to_string());
    let (told, observed) = tells(&caller, &node);
    assert_eq!(told, ["/ip4/60.0.3.1/tcp/4001"]);
    assert_eq!(observed, circuit.to_string());
}
