//! What a peer tells of itself.

use libp2p::{Multiaddr, PeerId};
use rp2pd::wire::pb::Response;

use super::*;
use crate::support::by_hand::ByHand;
use crate::support::{ControlClient, PATIENCE, raw};

/// How many addresses of `peer` the daemon knows; nothing if it does not know the peer.
pub fn known(client: &mut ControlClient, peer: PeerId) -> Option<usize> {
    let asked = raw::bytes(
        9,
        &[raw::int(1, 2), raw::bytes(2, &peer.to_bytes())].concat(),
    );
    let asked = [raw::int(1, 9), asked].concat();
    client.send_raw(&raw::frame(&asked)).expect("send");
    let answer: Response = client.receive().expect("an answer");
    Some(answer.peer_store?.peer?.addrs.len())
}

pub fn stuffed_to_its_limit() {
    let scene = Scene::new(&[]);
    scene.under("identify", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut told = 0;
        let stranger = PeerId::random();
        while told == 0 || crowd.rounds() < start + ENOUGH {
            let mut peer = ByHand::connect(&scene.victim);
            let id = peer.peer_id();
            let key = raw::bytes(1, &peer.key.public().encode_protobuf());
            let addresses: Vec<u8> = (0..150_u32)
                .flat_map(|number| {
                    let text = format!("/ip4/127.0.0.1/tcp/{}", 1000 + number);
                    raw::bytes(2, &text.parse::<Multiaddr>().expect("an address").to_vec())
                })
                .collect();
            let strange = [
                format!("/ip4/127.0.0.1/tcp/1/p2p/{stranger}"),
                format!("/ip4/127.0.0.1/tcp/1/p2p/{stranger}/p2p-circuit"),
            ]
            .map(|text| raw::bytes(2, &text.parse::<Multiaddr>().expect("an address").to_vec()))
            .concat();
            let rest = [
                raw::bytes(2, b"\xff\xff\xff"),
                raw::bytes(3, "/\u{1b}[2J\n\r\0\u{202e}".as_bytes()),
                raw::bytes(4, b"\x04"),
                raw::bytes(5, "\u{1b}]0;owned\u{7}\n2026 ERROR forged".as_bytes()),
                raw::bytes(6, "\u{1b}[31magent\n\n\u{2066}x".as_bytes()),
                // A signed record that is none, of somebody else.
                raw::bytes(
                    8,
                    &[raw::bytes(1, b"key"), raw::bytes(3, &stranger.to_bytes())].concat(),
                ),
            ]
            .concat();
            let message = [key, addresses, strange, rest].concat();
            assert!(message.len() < 4096, "{} bytes", message.len());
            peer.tell_identity(&message)
                .expect("the daemon asks who this is");
            let mut client = scene.victim.client();
            // The fault took place: what was told is known, within bounds.
            assert!(eventually(PATIENCE, || known(&mut client, id)
                .is_some_and(|count| count > 1)));
            let count = known(&mut client, id).expect("a peer");
            assert!(count <= 64, "{count} addresses");
            assert!(
                known(&mut client, stranger).is_none(),
                "it speaks for others"
            );
            // Far more than identify takes ends in nothing.
            let mut peer = ByHand::connect(&scene.victim);
            let _ = peer.tell_identity(&raw::bytes(2, &[4; 8]).repeat(10_000));
            told += 1;
        }
        println!("{told} peers");
        let text = scene.victim.stderr();
        assert!(
            !text.contains('\u{1b}') && !text.contains("forged\n"),
            "{text}"
        );
    });
}
