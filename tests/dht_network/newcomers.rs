//! Admission to the routing table, and eviction from it.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use rp2pd::wire::frame;

use super::*;
use crate::support::by_hand::{ACK, ByHand, DATA, Frame, MULTISTREAM, data, messages};
use crate::support::kad::{Kind, Message, PROTOCOL, Peer, Puppet, ask, open, polite};
use crate::support::{PATIENCE, eventually, raw};

/// How long a newcomer waits for a request of the daemon.
const VISIT: Duration = Duration::from_millis(500);

/// Longest time until a newcomer is admitted to a full bucket of dead peers: the sweep, the silence
/// that an entry is allowed, and the dials of three entries.
const LOOK: Duration = Duration::from_secs(75);

fn with_plaintext() -> Daemon {
    launch("-dhtServer").args(["-plaintext=true"]).spawn()
}

/// Whether a frame of the daemon's proposes `protocol`.
fn proposes(frame: &Frame, protocol: &str) -> bool {
    let named = |body: &[u8]| {
        body.windows(protocol.len())
            .any(|part| part == protocol.as_bytes())
    };
    frame.kind == DATA && named(&frame.body)
}

/// Connects a peer whose identify message lists the DHT protocol, and an address without a listener.
fn newcomer(node: &Daemon) -> ByHand {
    let mut peer = ByHand::connect(node);
    let nowhere: Multiaddr = "/ip4/127.0.0.1/tcp/1025".parse().expect("an address");
    let identity = [
        raw::bytes(1, &peer.key.public().encode_protobuf()),
        raw::bytes(2, &nowhere.to_vec()),
        raw::bytes(3, PROTOCOL.as_bytes()),
    ];
    peer.tell_identity(&identity.concat()).expect("identify");
    peer.pipe.socket.set_timeout(VISIT).expect("set a timeout");
    peer
}

/// Answers the next DHT request of the daemon. False if there is none within [`VISIT`].
fn answers(peer: &mut ByHand) -> bool {
    loop {
        let Ok(frame) = peer.receive() else {
            return false;
        };
        if !proposes(&frame, PROTOCOL) {
            continue;
        }
        let own = peer.peer_id();
        let mut answer = Message::new(Kind::FindNode, &own.to_bytes());
        answer.closer.push(Peer::new(own, &[]));
        let body = [
            messages(&[MULTISTREAM, PROTOCOL]),
            frame::encode(&answer).to_vec(),
        ]
        .concat();
        return peer.pipe.write_all(&data(ACK, frame.stream, &body)).is_ok();
    }
}

/// Common prefix length of two peers in the key space.
fn shared_bits(one: PeerId, other: PeerId) -> u32 {
    let distance = distance(&one.to_bytes(), other);
    let zeros = distance.iter().take_while(|byte| **byte == 0).count();
    let rest = distance.get(zeros).map_or(0, |byte| byte.leading_zeros());
    u32::try_from(zeros).expect("at most 32") * 8 + rest
}

/// A live peer keeps its place in the table, whether it is connected or not.
#[test]
fn ids_that_come_and_go_displace_nobody() {
    const IDS: usize = 300;
    let node = with_plaintext();
    let servers: [Daemon; 30] = servers();
    for server in &servers {
        node.connect_to(server);
    }
    let admitted = await_report(&node, PATIENCE, |table| table.len() >= servers.len() - 5);
    let before = table(&node);
    assert!(admitted, "{} of 30 in the table", before.len());
    for server in &servers {
        node.client().disconnect(server.peer_id());
    }
    let alone = eventually(PATIENCE, || node.client().list_peers().is_empty());
    assert!(alone, "servers are still connected");
    let answered: usize = std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let visit = |_| usize::from(answers(&mut newcomer(&node)));
                    (0..IDS / 10).map(visit).sum::<usize>()
                })
            })
            .collect();
        let answered = visitors
            .into_iter()
            .map(|visitor| visitor.join().expect("visits"));
        answered.sum()
    });
    let after = table(&node);
    let left = before.intersection(&after).count();
    println!(
        "{left} of {} remain, {answered} newcomers were asked",
        before.len()
    );
    assert_eq!(left, before.len(), "live servers gave way");
    for server in before {
        assert!(node.client().find_peer(server).is_ok());
    }
}

/// A bucket does not stay full of dead peers.
#[test]
fn who_has_gone_makes_room_for_who_is_there() {
    let node = with_plaintext();
    let far = |table: &HashSet<PeerId>| {
        let far = |peer: &&PeerId| shared_bits(node.peer_id(), **peer) == 0;
        table.iter().filter(far).count()
    };
    let full = await_report(&node, 4 * PATIENCE, |table| {
        for _ in 0..10 {
            answers(&mut newcomer(&node));
        }
        far(table) == 20
    });
    assert!(full, "{} in the farthest bucket", far(&table(&node)));
    let key = std::iter::repeat_with(Keypair::generate_ed25519)
        .find(|key| shared_bits(node.peer_id(), key.public().to_peer_id()) == 0)
        .expect("endless");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("identity");
    let bytes = key.to_protobuf_encoding().expect("a key");
    std::fs::write(&path, bytes).expect("write the key");
    let live = launch("-dhtServer")
        .args([format!("-id={}", path.display())])
        .spawn();
    live.connect_to(&node);
    let admitted = await_report(&node, LOOK, |table| table.contains(&live.peer_id()));
    assert!(admitted, "a bucket of dead");
    assert!(far(&table(&node)) <= 20);
}

/// Listing the protocol in identify is not enough.
#[test]
fn who_answers_nothing_is_told_to_nobody_and_leaves() {
    let node = with_plaintext();
    let silent = newcomer(&node);
    let asker = Puppet::new(polite);
    asker.join(&node);
    let mut pipe = open(&asker.daemon, node.peer_id()).expect("a stream");
    let question = Message::new(Kind::FindNode, b"whatever");
    let answer = ask(&mut pipe, &question).expect("an answer");
    let id = silent.peer_id().to_bytes();
    assert!(answer.closer.iter().all(|peer| peer.id != id), "{answer:?}");
    // Its connection is kept.
    let left = await_report(&node, PATIENCE, |table| !table.contains(&silent.peer_id()));
    assert!(left, "it has answered nothing and stays");
    assert!(table(&node).contains(&asker.peer_id()));
    let mut connected = node.client();
    let listed = connected.list_peers();
    assert!(listed.iter().any(|(peer, _)| *peer == silent.peer_id()));
}
