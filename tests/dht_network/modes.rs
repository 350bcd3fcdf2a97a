//! DHT modes: servers, clients, automatic.

use super::*;
use crate::support::kad::{Kind, Message, PROTOCOL, Puppet, ask, open, polite};
use crate::support::{PATIENCE, eventually};

/// Whether `daemon` accepts streams of the DHT protocol.
fn serves(asker: &Puppet, daemon: &Daemon) -> bool {
    asker.daemon.connect_to(daemon);
    match open(&asker.daemon, daemon.peer_id()) {
        Ok(mut pipe) => ask(&mut pipe, &Message::new(Kind::Ping, b"")).is_ok(),
        Err(refused) => {
            let expected = format!("protocols not supported: [{PROTOCOL}]");
            assert!(refused.contains(&expected), "{refused}");
            false
        }
    }
}

#[test]
fn servers_serve_and_clients_do_not() {
    let asker = Puppet::new(polite);
    for (mode, expected) in [
        ("-dhtServer", true),
        ("-dhtClient", false),
        // Automatic: a client until it is known to be public.
        ("-dht", false),
        ("-dht=false", false),
    ] {
        let daemon = launch(mode).spawn();
        assert_eq!(serves(&asker, &daemon), expected, "{mode}");
    }
}

#[test]
fn of_several_modes_the_first_in_gos_order_counts() {
    let asker = Puppet::new(polite);
    let daemon = launch("-dhtServer").args(["-dhtClient"]).spawn();
    assert!(!serves(&asker, &daemon), "client before server");
    let daemon = launch("-dhtServer").args(["-dht"]).spawn();
    assert!(!serves(&asker, &daemon), "automatic before server");
}

#[test]
fn who_only_asks_is_in_nobodys_table_and_asks_all_the_same() {
    let [hub, other] = star();
    for mode in ["-dhtClient", "-dht"] {
        let node = launch(mode).spawn();
        node.connect_to(&hub);
        node.client().await_table(&[hub.peer_id(), other.peer_id()]);
        for server in [&hub, &other] {
            let table = server.client().closest_peers(&node.peer_id().to_bytes());
            assert!(!table.expect("closest").contains(&node.peer_id()), "{mode}");
        }
    }
}

#[test]
fn two_that_only_ask_have_nobody_to_ask() {
    let (a, b) = (client_mode(), client_mode());
    a.connect_to(&b);
    for node in [&a, &b] {
        let refused = node.client().closest_peers(b"key");
        assert_eq!(refused, Err(crate::support::dht::EMPTY_TABLE.into()));
    }
}

#[test]
fn without_a_dht_every_verb_says_so() {
    let daemon = Daemon::spawn(&[LISTEN]);
    let mut client = daemon.client();
    let refused: Result<(), String> = Err("DHT not enabled".into());
    assert_eq!(client.find_peer(PeerId::random()).map(drop), refused);
    assert_eq!(client.provide(b"").map(drop), refused);
    assert_eq!(client.find_providers(b"", None).map(drop), refused);
    assert_eq!(client.closest_peers(b"").map(drop), refused);
    assert_eq!(client.public_key(PeerId::random()).map(drop), refused);
    assert_eq!(client.get_value(b"").map(drop), refused);
    assert_eq!(client.search_value(b"").map(drop), refused);
    assert_eq!(client.put_value(b"", b"").map(drop), refused);
    assert_eq!(client.identify().0, daemon.peer_id());
}

/// A peer that has left is removed from the routing table.
#[test]
fn a_server_that_ends_leaves_the_tables() {
    let [a, mut b, c] = servers();
    join(&a, &b);
    join(&a, &c);
    b.terminate(PATIENCE);
    let left = eventually(PATIENCE, || {
        a.client().closest_peers(b"key") == Ok(vec![c.peer_id()])
    });
    assert!(left, "a dead peer is still a result");
}
