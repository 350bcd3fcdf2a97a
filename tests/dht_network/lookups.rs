//! Finding peers, and connecting to peers without given addresses.

use libp2p::PeerId;
use libp2p::identity::Keypair;

use super::*;
use crate::support::dht::{EMPTY_TABLE, NOT_FOUND, fresh_public_key_record};
use crate::support::{Handler, PATIENCE, eventually, payload};

#[test]
fn a_peer_is_found_through_a_neighbour() {
    let [a, b, c] = row();
    let (id, addrs) = a.client().find_peer(c.peer_id()).expect("FIND_PEER");
    assert_eq!(id, c.peer_id());
    assert!(!addrs.is_empty());
    assert!(
        addrs.iter().all(|addr| c.addrs().contains(addr)),
        "{addrs:?}"
    );
    // A connected peer needs no lookup.
    let (id, addrs) = a.client().find_peer(b.peer_id()).expect("FIND_PEER");
    assert_eq!((id, addrs.as_slice()), (b.peer_id(), b.addrs()));
}

/// If the peer can be reached, the answers of others are not needed.
#[test]
fn to_find_a_peer_nobody_else_is_dialed() {
    let hub = server();
    let spokes: [Daemon; 8] = servers();
    for spoke in &spokes {
        spoke.connect_to(&hub);
    }
    let known = await_report(&hub, PATIENCE, |table| {
        spokes.iter().all(|spoke| table.contains(&spoke.peer_id()))
    });
    assert!(known, "not all are in the table");
    let [a, .., b] = &spokes;
    let (_, addrs) = a.client().find_peer(b.peer_id()).expect("FIND_PEER");
    assert!(!addrs.is_empty());
    let mut connected: Vec<_> = a.client().list_peers();
    connected.retain(|(peer, _)| *peer != hub.peer_id() && *peer != b.peer_id());
    assert_eq!(connected, [], "dialed as well");
    // The next is found as well, and so is one that has gone, in vain.
    assert!(a.client().find_peer(spokes[3].peer_id()).is_ok());
}

#[test]
fn nobody_knows_a_peer_that_does_not_exist() {
    let [a, _b, _c] = row();
    let lonely = server();
    for peer in [PeerId::random(), lonely.peer_id()] {
        assert_eq!(
            a.client().find_peer(peer).expect_err("no such peer"),
            NOT_FOUND
        );
    }
}

/// As with Hivemind: clients in client mode that are connected to a bootstrap node only.
#[test]
fn a_client_mode_peer_is_found_through_the_node_it_is_connected_to() {
    let [hub, other] = star();
    let (a, b) = (client_mode(), client_mode());
    a.connect_to(&hub);
    b.connect_to(&other);
    for seeker in [&b, &other] {
        seeker.client().await_table(&[hub.peer_id()]);
        let (id, addrs) = seeker.client().find_peer(a.peer_id()).expect("FIND_PEER");
        assert_eq!((id, addrs.as_slice()), (a.peer_id(), a.addrs()));
    }
    let tables = [&hub, &other].map(|node| node.client().closest_peers(b"whatever"));
    for table in tables {
        let table = table.expect("GET_CLOSEST_PEERS");
        assert!(!table.contains(&a.peer_id()) && !table.contains(&b.peer_id()));
    }
}

#[test]
fn connect_needs_no_addresses() {
    let hub = server();
    let nodes = [server(), client_mode(), client_mode()];
    for node in &nodes {
        node.connect_to(&hub);
        node.client().await_table(&[hub.peer_id()]);
    }
    let [server, a, b] = &nodes;
    for (from, to) in [(a, server), (a, b), (server, b)] {
        from.client().connect_peer(to.peer_id(), &[]);
        let listed = from.client().list_peers();
        assert!(listed.iter().any(|(peer, _)| *peer == to.peer_id()));
    }
}

#[test]
fn a_stream_needs_no_addresses() {
    let hub = server();
    let (a, b) = (client_mode(), client_mode());
    for node in [&a, &b] {
        node.connect_to(&hub);
        node.client().await_table(&[hub.peer_id()]);
    }
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["sqrt"], Some(false))
        .expect("register");
    let echo = handler.echo(1);
    let (info, pipe) = a
        .client()
        .open_stream(b.peer_id(), &["sqrt"])
        .expect("open");
    assert_eq!(info.peer, b.peer_id().to_bytes());
    let sent = payload(100_000, 1);
    assert!(pipe.echo(&sent) == sent);
    echo.join().expect("the echo");
}

#[test]
fn connect_to_a_peer_that_is_nowhere_says_so() {
    let node = server();
    let nobody = PeerId::random();
    let refused = node.client().connect_to(nobody, &[]).expect_err("nowhere");
    assert!(refused.ends_with(EMPTY_TABLE), "{refused}");
    let other = server();
    join(&node, &other);
    let refused = node.client().connect_to(nobody, &[]).expect_err("nowhere");
    assert!(refused.ends_with(NOT_FOUND), "{refused}");
}

/// A lookup replaces an address that is no longer valid.
#[test]
fn connect_finds_a_peer_that_has_moved() {
    let [hub, a] = star();
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("identity");
    let bytes = Keypair::generate_ed25519()
        .to_protobuf_encoding()
        .expect("a key");
    std::fs::write(&key, bytes).expect("write the key");
    let id = format!("-id={}", key.display());
    let mut b = launch("-dhtServer").args([&id]).spawn();
    a.connect_to(&b);
    b.terminate(PATIENCE);
    let moved = launch("-dhtServer").args([&id]).spawn();
    assert_eq!(moved.peer_id(), b.peer_id());
    moved.connect_to(&hub);
    let gone = eventually(PATIENCE, || {
        let peers = a.client().list_peers();
        !peers.iter().any(|(peer, _)| *peer == b.peer_id())
    });
    assert!(gone, "the old one is still connected");
    a.client().connect_peer(moved.peer_id(), &[]);
}

#[test]
fn the_closest_peers_come_in_order_and_without_oneself() {
    let daemons: [Daemon; 7] = star();
    let [hub, ..] = &daemons;
    for asked in &daemons {
        for key in [&b"a"[..], b"whatever", &hub.peer_id().to_bytes()] {
            let mut expected: Vec<_> = daemons.iter().map(Daemon::peer_id).collect();
            expected.retain(|peer| *peer != asked.peer_id());
            expected.sort_by_key(|peer| distance(key, *peer));
            let mut got = Ok(Vec::new());
            // The hub may not have admitted the last of them yet.
            let all = eventually(PATIENCE, || {
                got = asked.client().closest_peers(key);
                got.as_ref() == Ok(&expected)
            });
            assert!(all, "{got:?}, not {expected:?}");
        }
    }
}

#[test]
fn no_more_than_twenty_closest_peers() {
    let daemons: [Daemon; 23] = star();
    let key = b"crowd";
    let got = daemons[1].client().closest_peers(key).expect("closest");
    assert_eq!(got.len(), 20);
    assert!(got.is_sorted_by_key(|peer| distance(key, *peer)));
}

/// Better than Go, where the table may be updated after the answer to CONNECT.
#[test]
fn the_table_holds_a_peer_when_connect_is_answered() {
    for _ in 0..10 {
        let [a, b] = servers();
        a.connect_to(&b);
        assert_eq!(a.client().closest_peers(b"123"), Ok(vec![b.peer_id()]));
    }
}

#[test]
fn public_keys_come_from_ids_connections_and_the_network() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("identity");
    // Its id does not hold the key.
    let keypair = Keypair::generate_ecdsa();
    let bytes = keypair.to_protobuf_encoding().expect("a key");
    std::fs::write(&path, bytes).expect("write the key");
    let [a, b] = star();
    let far = launch("-dhtServer")
        .args([format!("-id={}", path.display())])
        .spawn();
    join(&b, &far);
    let mut client = a.client();

    let public = keypair.public().encode_protobuf();
    // Better than Go, where the first of them finds it only if the two happen to have met.
    for node in [&a, &b, &far] {
        assert_eq!(
            node.client().public_key(far.peer_id()).as_ref(),
            Ok(&public)
        );
    }
    for inlined in [
        a.peer_id(),
        b.peer_id(),
        Keypair::generate_ed25519().public().into(),
    ] {
        let key = client.public_key(inlined).expect("a key in the id");
        assert!(inlined.to_bytes().ends_with(&key));
    }

    let unknown = Keypair::generate_ecdsa().public().to_peer_id();
    assert_eq!(client.public_key(unknown), Err(NOT_FOUND.into()));
}

#[test]
fn a_published_key_is_found_without_its_owner() {
    let [a, _hub, c] = row();
    let (key, value) = fresh_public_key_record();
    a.client().put_value(&key, &value).expect("PUT_VALUE");
    let owner = PeerId::from_bytes(&key[b"/pk/".len()..]).expect("an id");
    assert_eq!(c.client().public_key(owner), Ok(value));
}
