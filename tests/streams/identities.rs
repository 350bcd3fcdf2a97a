//! What a peer says of itself in identify, where the library cannot read it (COMPATIBILITY.md 4.4).

use super::*;
use crate::support::by_hand::ByHand;
use crate::support::{eventually, raw};
use rp2pd::wire::pb::Response;

/// The protocols of `peer` that the daemon knows.
fn protocols(daemon: &Daemon, peer: &ByHand) -> Vec<String> {
    let asked = [raw::int(1, 1), raw::bytes(2, &peer.peer_id().to_bytes())].concat();
    let asked = [raw::int(1, 9), raw::bytes(9, &asked)].concat();
    let mut client = daemon.client();
    client.send_raw(&raw::frame(&asked)).expect("send");
    let answer: Response = client.receive().expect("an answer");
    answer
        .peer_store
        .map(|store| crate::support::control::texts(&store.protos))
        .unwrap_or_default()
}

#[test]
fn one_protocol_name_that_is_no_text_costs_only_itself() {
    let daemon = Daemon::spawn(&[
        "-hostAddrs=/ip4/127.0.0.1/tcp/0",
        "-plaintext=true",
        "-pubsub=true",
    ]);
    for other in [&b"/binary/\xff\xfe"[..], &[b'x'; 5000]] {
        let mut peer = ByHand::connect(&daemon);
        let key = raw::bytes(1, &peer.key.public().encode_protobuf());
        let names = ["/a/1", "/meshsub/1.1.0"].map(|name| raw::bytes(3, name.as_bytes()));
        let message = [&key[..], &names[0], &raw::bytes(3, other), &names[1]].concat();
        // The library's request, whose answer it refuses, and the daemon's own.
        for _ in 0..2 {
            peer.tell_identity(&message).expect("a request");
        }
        let known = || protocols(&daemon, &peer) == ["/a/1", "/meshsub/1.1.0"];
        assert!(
            eventually(PATIENCE, known),
            "{:?}",
            protocols(&daemon, &peer)
        );
        // Pubsub has learned of it: it opens its stream.
        let opened = |body: &[u8]| body.windows(14).any(|part| part == b"/meshsub/1.1.0");
        while !opened(&peer.receive().expect("a frame").body) {}
    }
}

#[test]
fn connect_says_that_identify_failed() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-plaintext=true"]);
    let mut peer = ByHand::connect(&daemon);
    let id = peer.peer_id();
    let listed = || daemon.client().list_peers();
    let is_listed = || listed().iter().any(|(peer, _)| *peer == id);
    assert!(eventually(PATIENCE, is_listed), "{:?}", listed());
    std::thread::scope(|scope| {
        let connect = scope.spawn(|| daemon.client().connect_to(id, &[]));
        // A field that is longer than the message.
        for _ in 0..2 {
            peer.tell_identity(b"\x0a\x7f").expect("a request");
        }
        let refused = connect.join().expect("no panic").expect_err("an error");
        assert!(
            refused.starts_with("identify failed to complete: malformed message: "),
            "{refused}"
        );
    });
    // The connection stays.
    assert!(is_listed(), "{:?}", listed());
}
