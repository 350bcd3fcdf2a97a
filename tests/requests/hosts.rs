//! Who this daemon is and whom it is connected to: IDENTIFY, LIST_PEERS, DISCONNECT.

use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::*;
use crate::support::{PATIENCE, eventually};

fn disconnect(peer: &[u8]) -> Vec<u8> {
    [raw::int(1, 7), raw::bytes(7, &raw::bytes(1, peer))].concat()
}

#[test]
fn identify_lists_bound_addresses_without_the_peer() {
    let daemon = Daemon::spawn(&[
        "-hostAddrs=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0/ws",
    ]);
    let (_, addrs) = daemon.client().identify();
    assert_eq!(addrs.len(), 3, "{addrs:?}");
    for addr in &addrs {
        assert!(!addr.iter().any(|part| matches!(part, Protocol::P2p(_))));
        assert!(
            addr.iter()
                .all(|part| !matches!(part, Protocol::Tcp(0) | Protocol::Udp(0)))
        );
        // The banner tells the same.
        let told = || daemon.stdout().lines().any(|line| line == addr.to_string());
        assert!(eventually(PATIENCE, told), "{}", daemon.stdout());
    }
}

#[test]
fn announced_addresses_replace_the_bound_ones_verbatim() {
    let daemon = Daemon::spawn(&[
        "-hostAddrs=/ip4/127.0.0.1/tcp/0",
        "-announceAddrs=/dns4/example.org/tcp/4001,/ip4/192.0.2.1/udp/1/quic-v1",
    ]);
    let (_, addrs) = daemon.client().identify();
    let text: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        ["/dns4/example.org/tcp/4001", "/ip4/192.0.2.1/udp/1/quic-v1"]
    );
}

#[test]
fn list_peers_shows_both_sides_to_each_other_once() {
    let (a, b) = pair();
    // A second CONNECT, from either side, makes no second entry.
    a.connect_to(&b);
    b.connect_to(&a);
    let seen_by_a = a.client().list_peers();
    assert_eq!(seen_by_a, [(b.peer_id(), b.addrs().to_vec())]);
    let seen_by_b = b.client().list_peers();
    assert_eq!(seen_by_b.len(), 1);
    assert_eq!(seen_by_b[0].0, a.peer_id());
    assert_eq!(seen_by_b[0].1.len(), 1);
}

/// Carries one connection from each of `ways` to its port, none before all have been dialed.
fn gate(ways: [(TcpListener, u16); 2]) {
    let dialed = ways.map(|(listener, port)| (listener.accept().expect("a dial").0, port));
    for (near, port) in dialed {
        let far = TcpStream::connect(("127.0.0.1", port)).expect("the peer");
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (
                from.try_clone().expect("clone"),
                to.try_clone().expect("clone"),
            );
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    }
}

#[test]
fn crossed_dials_leave_one_entry_and_one_disconnect_ends_them() {
    for _ in 0..5 {
        // Fresh ones: each round leaves addresses behind that would be dialed as well.
        let (a, b) = (node(), node());
        let ways = [&b, &a].map(|to| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            (listener, dialing::port_of(&to.addrs()[0]))
        });
        let addrs: Vec<Multiaddr> = ways
            .iter()
            .map(|(listener, _)| {
                let port = listener.local_addr().expect("an address").port();
                format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("addr")
            })
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(|| gate(ways));
            scope.spawn(|| a.client().connect_peer(b.peer_id(), &addrs[..1]));
            scope.spawn(|| b.client().connect_peer(a.peer_id(), &addrs[1..]));
        });
        // The dialed address and the one it was dialed from: two connections on each side.
        for (here, there) in [(&a, &b), (&b, &a)] {
            let both = eventually(PATIENCE, || {
                let list = here.client().list_peers();
                assert_eq!(list.len(), 1, "{list:?}");
                assert_eq!(list[0].0, there.peer_id());
                list[0].1.len() == 2
            });
            assert!(both, "the dials did not cross: nothing was tested");
        }
        a.client().disconnect(b.peer_id());
        assert_eq!(a.client().list_peers(), []);
        assert!(eventually(PATIENCE, || b.client().list_peers().is_empty()));
    }
}

#[test]
fn simultaneous_dials_all_succeed() {
    let (a, b) = (node(), node());
    for _ in 0..50 {
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            for (from, to) in [(&a, &b), (&b, &a)] {
                let start = &start;
                scope.spawn(move || {
                    let mut client = from.client();
                    start.wait();
                    client.connect_peer(to.peer_id(), to.addrs());
                });
            }
        });
        // A dial may still be under way when the other side's has succeeded.
        let apart = eventually(PATIENCE, || {
            a.client().disconnect(b.peer_id());
            b.client().disconnect(a.peer_id());
            a.client().list_peers().is_empty() && b.client().list_peers().is_empty()
        });
        assert!(apart);
    }
}

#[test]
fn disconnect_has_happened_on_both_sides_when_it_answers() {
    let (a, b) = (node(), node());
    for round in 0..50 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        from.connect_to(to);
        assert_eq!(from.client().list_peers().len(), 1);
        from.client().disconnect(to.peer_id());
        assert_eq!(from.client().list_peers(), [], "round {round}, this side");
        assert_eq!(to.client().list_peers(), [], "round {round}, the remote");
    }
}

#[test]
fn disconnect_of_anybody_else_is_fine() {
    let (a, b) = (node(), node());
    let mut client = a.client();
    for peer in [a.peer_id(), b.peer_id(), PeerId::random()] {
        assert_eq!(
            ask(&mut client, &disconnect(&peer.to_bytes())),
            Response::default()
        );
    }
    // Twice in a row as well.
    a.connect_to(&b);
    for _ in 0..2 {
        client.disconnect(b.peer_id());
    }
    assert_eq!(client.list_peers(), []);
}

#[test]
fn disconnect_ends_pipes_on_both_sides() {
    let (a, b) = pair();
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["/hold"], None)
        .expect("register");
    let (_, mut near) = a
        .client()
        .open_stream(b.peer_id(), &["/hold"])
        .expect("open");
    let (_, mut far) = handler.accept(PATIENCE).expect("the stream");
    a.client().disconnect(b.peer_id());
    for pipe in [&mut near, &mut far] {
        let mut rest = Vec::new();
        assert_eq!(pipe.read_to_end(&mut rest).expect("an orderly end"), 0);
    }
}
