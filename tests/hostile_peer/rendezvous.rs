//! A rendezvous point, and peers that register and ask without end.

use std::io::Write;

use libp2p::Multiaddr;

use super::*;
use crate::support::by_hand::{ByHand, FIN, MULTISTREAM, SYN, data, messages};
use crate::support::{PATIENCE, Random, raw};

const PROTOCOL: &str = "/rendezvous/1.0.0";
const REGISTRATIONS: &str = "registrations at this rendezvous point";

/// A registration of `peer` with as many addresses as are kept.
fn register(peer: &ByHand, name: &[u8]) -> Vec<u8> {
    let addresses: Vec<u8> = (1..=64)
        .flat_map(|port| {
            let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("one");
            raw::bytes(2, &address.to_vec())
        })
        .collect();
    let record = [raw::bytes(1, &peer.peer_id().to_bytes()), addresses].concat();
    let fields = [
        raw::bytes(1, name),
        raw::bytes(2, &record),
        raw::int(3, 7200),
    ];
    raw::frame(&[raw::int(1, 0), raw::bytes(2, &fields.concat())].concat())
}

pub fn requests_without_end() {
    let scene = Scene::new(&["-rendezvousServer"]);
    scene.under("rendezvous", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut random = Random::new("rendezvous");
        let discover = raw::frame(&[raw::int(1, 3), raw::bytes(5, b"")].concat());
        let mut peers: Vec<_> = (0..4)
            .map(|_| {
                let peer = ByHand::connect(&scene.victim);
                let read = peer.discard();
                (peer, read)
            })
            .collect();
        let mut asked = 0;
        while crowd.rounds() < start + ENOUGH || asked < 20_000 {
            for (peer, _) in &mut peers {
                let mut said = messages(&[MULTISTREAM, PROTOCOL]);
                for _ in 0..20 {
                    let length = 1 + random.below(255);
                    said.extend(register(peer, &random.bytes(length)));
                    said.extend(&discover);
                    asked += 2;
                }
                let number = peer.number();
                let frame = data(SYN | FIN, number, &said);
                peer.pipe.write_all(&frame).expect("the connection stays");
            }
        }
        let refused = || scene.victim.bites(REGISTRATIONS) > 1000;
        assert!(eventually(PATIENCE, refused), "there is room for all");
        let read: u64 = peers.iter().map(|(_, read)| read.bytes()).sum();
        println!(
            "{asked} requests, {read} bytes of answers, {} registrations refused",
            scene.victim.bites(REGISTRATIONS)
        );
        assert!(read > 1 << 20, "no answers");
        assert!(peers.iter().all(|(_, read)| !read.is_ended()));
    });
}
