//! What does not use a circuit.

use super::{ByHand, LISTEN};
use crate::support::{Daemon, PATIENCE, eventually};

/// Both sides speak both, and neither speaks it to the other.
#[test]
fn dht_and_pubsub_leave_relayed_peers_alone() {
    let relay = ByHand::new();
    let flags = [LISTEN, "-dhtServer", "-pubsub"];
    let (a, d) = (Daemon::spawn(&flags), Daemon::spawn(&flags));
    a.connect_to(&relay.daemon);
    let _topic = a.subscribe("circuits");
    std::thread::scope(|scope| {
        let connected = scope.spawn(|| {
            d.client().connect_peer(a.peer_id(), &[relay.circuit()]);
        });
        relay.pass_on(&d, &a, None);
        connected.join().expect("CONNECT");
    });
    let both = || !a.client().list_peers().is_empty() && !d.client().list_peers().is_empty();
    assert!(eventually(PATIENCE, both));
    // CONNECT has waited for identify. By then a direct peer is in the table.
    let table = d.client().closest_peers(b"anything");
    assert!(table.is_err(), "{table:?}");
    let told = || d.client().topic_peers("circuits").expect("LIST_PEERS");
    assert_eq!(told(), []);
    // A direct connection makes it a peer like others.
    d.client().disconnect(a.peer_id());
    d.connect_to(&a);
    d.client().await_table(&[a.peer_id()]);
    assert!(eventually(PATIENCE, || told() == [a.peer_id()]), "pubsub");
}

/// A daemon without relay tells nobody that it could be one, or be reached through one.
#[test]
fn without_a_relay_identify_tells_of_none() {
    let peer = Daemon::spawn(&[LISTEN]);
    for (flags, expected) in [
        (&["-relay=0"][..], [false, false]),
        (&["-relayService=0"], [false, true]),
        (&[], [true, true]),
    ] {
        let node = Daemon::spawn(&[&[LISTEN], flags].concat());
        peer.connect_to(&node);
        let opened = peer
            .client()
            .open_stream(node.peer_id(), &["/ipfs/id/1.0.0"]);
        let message = opened.expect("a stream").1.read_frame().expect("identify");
        let message = String::from_utf8_lossy(&message);
        let told = ["hop", "stop"]
            .map(|end| message.contains(&format!("/libp2p/circuit/relay/0.2.0/{end}")));
        assert_eq!(told, expected, "{flags:?}");
    }
}
