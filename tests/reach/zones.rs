//! Link-local addresses of IPv6.

use std::io::{Read as _, Write as _};

use super::*;
use crate::support::lab::Lab;

#[test]
fn a_link_local_address_is_listened_on_and_dialed() {
    served("");
}

#[test]
fn a_link_local_address_is_listened_on_and_dialed_by_websocket() {
    served("/ws");
}

fn served(over: &str) {
    let listened = format!("/ip6zone/wan/ip6/fe80::77/tcp/4001{over}");
    let Some(lab) = Lab::new() else { return };
    let hosts = [lab.host("60.0.1.1/16"), lab.host("60.0.2.1/16")];
    for (host, number) in hosts.iter().zip([77, 78]) {
        host.run(&format!("ip -6 addr add fe80::{number}/64 dev wan nodad"));
    }
    let listener = hosts[0]
        .launch()
        .args([format!("-hostAddrs={listened}")])
        .spawn();
    assert_eq!(told(&listener), std::slice::from_ref(&listened));
    let dialer = on(&hosts[1], &[]);
    let dial = |address: &str| {
        let address = address.parse().expect("an address");
        dialer.client().connect_to(listener.peer_id(), &[address])
    };
    let nowhere = listened.replace("wan", "none");
    let refused = dial(&nowhere).expect_err("no such interface");
    assert!(refused.contains("all dials failed"), "{refused}");
    dial(&listened).expect("connect");
    let (info, mut pipe) = dialer
        .client()
        .open_stream(listener.peer_id(), &["/echo/1.0.0"])
        .expect("a stream");
    let remote = libp2p::Multiaddr::try_from(info.addr.to_vec()).expect("an address");
    assert_eq!(remote.to_string(), listened);
    pipe.write_all(b"hello").expect("write");
    let mut back = [0; 5];
    pipe.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"hello");
    let peers = listener.client().list_peers();
    let seen = peers[0].1[0].to_string();
    assert!(seen.starts_with("/ip6zone/wan/ip6/fe80::"), "{seen}");
    assert_eq!(seen.ends_with("/ws"), over == "/ws", "{seen}");
}
