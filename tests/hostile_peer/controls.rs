//! What peers say of meshes: more of it than anybody takes, and names of peers that nobody asked for.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::identity::Keypair;

use super::*;
use crate::support::cgroup::Group;
use crate::support::rpc::{self, Peer};
use crate::support::{PATIENCE, raw};

const BROKEN: &str = "pubsub rules that peers have broken";

/// What the daemon may hold meanwhile, in KiB: what has come of some RPCs of a mebibyte.
const MOST: u64 = 48 << 10;

/// As many entries of two bytes as an RPC of the largest size holds.
const ENTRIES: usize = 520_000;

/// RPCs of a mebibyte, which would be dozens in memory.
fn large() -> Vec<Vec<u8>> {
    let empty = |field| raw::bytes(field, b"").repeat(ENTRIES);
    vec![
        raw::bytes(3, &empty(4)),
        raw::bytes(3, &empty(3)),
        raw::bytes(3, &empty(1)),
        raw::bytes(3, &empty(2)),
        rpc::control(1, &[raw::bytes(1, b"t"), empty(2)].concat()),
        rpc::control(2, &empty(1)),
    ]
}

pub fn half_a_million_entries_within_128_mib() {
    const PEERS: usize = 4;
    let Some(group) = Group::with_limit(128 << 20) else {
        return;
    };
    let scene = Scene::in_group(Some(group), &["-pubsub", "-memoryLimit=134217728"]);
    let _subscription = scene.victim.subscribe("t");
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::of(&scene.victim)).collect();
    scene.under("entries of two bytes", Streams::New, |crowd| {
        let start = crowd.rounds();
        let rpcs = large();
        let before = scene.victim.rss_kib();
        let (mut said, mut peak) = (0, before);
        while said == 0 || crowd.rounds() < start + ENOUGH {
            std::thread::scope(|scope| {
                let saying: Vec<_> = peers
                    .iter_mut()
                    .map(|peer| {
                        peer.say(&rpc::subscription(true, b"t"));
                        let rpcs = &rpcs;
                        scope.spawn(move || rpcs.iter().for_each(|rpc| peer.say(rpc)))
                    })
                    .collect();
                while saying.iter().any(|one| !one.is_finished()) {
                    peak = peak.max(scene.victim.rss_kib());
                }
            });
            said += PEERS * rpcs.len();
        }
        let grown = peak - before;
        println!("{said} RPCs, RSS grew by {grown} KiB");
        assert!(grown < MOST, "RSS grew by {grown} KiB");
        // They were read, and found to be what no honest peer sends.
        assert!(eventually(PATIENCE, || scene.victim.bites(BROKEN) > 0));
    });
}

/// Peer exchange is not taken: nobody is dialed or remembered because of it.
pub fn prunes_that_name_thousands() {
    const NAMED: usize = 5000;
    let scene = Scene::new(&["-pubsub"]);
    let _subscription = scene.victim.subscribe("t");
    // Who would be dialed if anybody was.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let at = listener.local_addr().expect("an address").port();
    let address = format!("/ip4/127.0.0.1/tcp/{at}")
        .parse()
        .expect("an address");
    let key = Keypair::generate_ed25519();
    let record = libp2p::core::PeerRecord::new(&key, vec![address]).expect("a record");
    let record = record.into_signed_envelope().into_protobuf_encoding();
    let named = key.public().to_peer_id();
    let mut peer = Peer::of(&scene.victim);
    scene.under("peer exchange", Streams::New, |crowd| {
        let start = crowd.rounds();
        let others: Vec<u8> = (0..NAMED)
            .flat_map(|_| raw::bytes(2, &raw::bytes(1, &PeerId::random().to_bytes())))
            .collect();
        let signed = [raw::bytes(1, &named.to_bytes()), raw::bytes(2, &record)].concat();
        let prune = [
            raw::bytes(1, b"t"),
            raw::bytes(2, &signed),
            others,
            raw::int(3, 60),
        ];
        let prune = rpc::control(4, &prune.concat());
        let graft = rpc::control(3, &raw::bytes(1, b"t"));
        let mut said = 0;
        while said == 0 || crowd.rounds() < start + ENOUGH {
            peer.say(&rpc::subscription(true, b"t"));
            peer.say(&graft);
            peer.say(&prune);
            said += NAMED;
            // What it says is heard.
            let heard = || {
                let peers = scene.victim.client().topic_peers("t");
                peers.expect("LIST_PEERS").contains(&peer.daemon.peer_id())
            };
            assert!(eventually(PATIENCE, heard));
        }
        println!("{said} peers named");
        assert_eq!(scene.victim.client().list_peers().len(), 2);
        let mut client = scene.victim.client();
        assert_eq!(identify::known(&mut client, named), None);
        std::thread::sleep(Duration::from_millis(1));
        let dialed = listener.accept();
        assert!(dialed.is_err(), "{dialed:?}");
    });
}
