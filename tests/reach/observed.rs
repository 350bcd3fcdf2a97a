//! Public addresses that peers see.

use super::*;
use crate::support::{PATIENCE, eventually, lab::Lab};

/// Go's order: the public address first, then loopback, then the network's own.
#[test]
fn a_public_address_is_told_once_four_hosts_see_it() {
    let Some(lab) = Lab::new() else { return };
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let node = on(&inside, &[]);
    let own = ["/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.10.2/tcp/4001"];
    let public = "/ip4/60.0.10.1/tcp/4001";
    let peers: Vec<_> = (1..=4)
        .map(|number| {
            let host = lab.host(&format!("60.0.{number}.1/16"));
            let peer = on(&host, &[]);
            (host, peer)
        })
        .collect();
    for (number, (_, peer)) in peers.iter().enumerate() {
        assert!(!told(&node).contains(&public.to_owned()), "{number} peers");
        let address = format!("/ip4/60.0.{}.1/tcp/4001", number + 1);
        let address = address.parse().expect("an address");
        node.client().connect_peer(peer.peer_id(), &[address]);
    }
    let expected = [&[public][..], &own].concat();
    let same = eventually(PATIENCE, || told(&node) == expected);
    assert!(same, "{:?}", told(&node));
}
