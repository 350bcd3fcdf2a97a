//! What is asked for, and how long it lasts.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

#[test]
fn what_cannot_be_is_refused_and_nothing_is_left() {
    let daemon = node();
    let mut client = daemon.client();
    let peer = PeerId::random();
    let mut refused = |wanted: TunnelRequest| ask_of(&mut client, wanted).expect_err("refused");
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address");
    let cases = [
        (
            of(Type::Forward),
            "Malformed request; missing tunnel.proto".to_owned(),
        ),
        (
            TunnelRequest {
                r#type: Some(9),
                ..of(Type::List)
            },
            "unknown tunnel type 9".into(),
        ),
        (
            forward(daemon.peer_id()),
            "a tunnel to this daemon itself".into(),
        ),
        (
            TunnelRequest {
                proto: Some("".into()),
                ..forward(peer)
            },
            "protocol name of 0 bytes: must be 1 to 256 bytes long".into(),
        ),
        (
            TunnelRequest {
                proto: Some("x".repeat(257).into()),
                ..expose(taken)
            },
            "protocol name of 257 bytes: must be 1 to 256 bytes long".into(),
        ),
        (
            TunnelRequest {
                listen: bytes("/ip4/0.0.0.0/tcp/0"),
                ..forward(peer)
            },
            "/ip4/0.0.0.0/tcp/0 is no address of a loopback interface: it needs anyInterface"
                .into(),
        ),
        (
            TunnelRequest {
                listen: bytes("/dns4/localhost/tcp/0"),
                ..forward(peer)
            },
            "/dns4/localhost/tcp/0 is a name: listen on an ip address or a unix path".into(),
        ),
        (
            TunnelRequest {
                listen: tcp(taken),
                ..forward(peer)
            },
            format!("listen tcp4 {taken}: bind: address already in use"),
        ),
        (
            TunnelRequest {
                any_peer: None,
                ..expose(taken)
            },
            "allow names no peer: name those that may use it, or set anyPeer".into(),
        ),
        (
            TunnelRequest {
                proto: Some("/ipfs/ping/1.0.0".into()),
                connections: Some(4097),
                ..expose(taken)
            },
            "4097 connections: must be at most 4096".into(),
        ),
        (
            TunnelRequest {
                proto: Some("/ipfs/id/1.0.0".into()),
                ..expose(taken)
            },
            "protocol \"/ipfs/id/1.0.0\" is served by the daemon itself".into(),
        ),
        (
            TunnelRequest {
                allow: vec![peer.to_bytes().into(); 257],
                ..expose(taken)
            },
            "too many allow: at most 256".into(),
        ),
        (
            TunnelRequest {
                allow_networks: vec!["x".into()],
                ..forward(peer)
            },
            "\"x\": not a network".into(),
        ),
        (
            TunnelRequest {
                ids: vec![7],
                ..of(Type::Close)
            },
            "tunnel 7 does not exist".into(),
        ),
    ];
    for (wanted, text) in cases {
        let shown = format!("{wanted:?}");
        assert_eq!(refused(wanted), text, "{shown}");
    }
    assert_eq!(list(&daemon), []);
    // The connection is as before.
    let _ = client.identify();
}

#[test]
fn a_name_belongs_to_one() {
    let daemon = node();
    let addr = service::nobody();
    let id = made(&daemon, expose(addr)).id;
    let served = format!("protocol \"{NAME}\" is served by the daemon itself");
    assert_eq!(ask(&daemon, expose(addr)), Err(served.clone()));
    let handler = support::Handler::unix();
    let taken = handler.register(&mut daemon.client(), &[NAME], None);
    assert_eq!(taken, Err(served));
    close(&daemon, &[id]).expect("closed");
    handler
        .register(&mut daemon.client(), &[NAME], None)
        .expect("free");
    let set = format!("handler for protocol {NAME} already set");
    assert_eq!(ask(&daemon, expose(addr)), Err(set));
}

#[test]
fn there_are_so_many_and_no_more() {
    let daemon = node();
    let mut client = daemon.client();
    let peer = PeerId::random();
    let ids: Vec<u64> = (0..256)
        .map(|_| ask_of(&mut client, forward(peer)).expect("a tunnel")[0].id)
        .collect();
    let refused = ask_of(&mut client, forward(peer));
    assert_eq!(refused, Err("too many tunnels: at most 256".into()));
    assert_eq!(list(&daemon).len(), 256);
    assert_eq!(close(&daemon, &ids).expect("closed").len(), 256);
    assert_eq!(list(&daemon), []);
    made(&daemon, forward(peer));
}

#[test]
fn a_tunnel_ends_with_its_connection_unless_it_is_kept() {
    let (near, far) = pair();
    let kept = made(&far, expose(service::echo()));
    let mut client = near.client();
    let wanted = TunnelRequest {
        keep: None,
        ..forward(far.peer_id())
    };
    let mut told = ask_of(&mut client, wanted).expect("a tunnel");
    let bound = told.remove(0);
    assert!(kept.keep && !bound.keep);
    // A connection may do something else beside.
    let _ = client.identify();
    let mut socket = dial(port(&bound));
    socket.write_all(b"x").expect("sent");
    socket.read_exact(&mut [0]).expect("came back");
    drop(client);
    assert_reset(&mut socket);
    let gone = || list(&near).is_empty() && TcpListener::bind(port(&bound)).is_ok();
    assert!(eventually(PATIENCE, gone));
    assert_eq!(only(&far).id, kept.id);
}

#[test]
fn a_tunnel_lasts_when_its_connection_becomes_something_else() {
    let (near, far) = pair();
    made(&far, expose(service::echo()));
    let mut client = near.client();
    let wanted = TunnelRequest {
        keep: None,
        ..forward(far.peer_id())
    };
    let bound = ask_of(&mut client, wanted).expect("a tunnel").remove(0);
    client.ask(&typed(request::Type::Events)).expect("EVENTS");
    for _ in 0..2 {
        let mut socket = dial(port(&bound));
        socket.write_all(b"x").expect("sent");
        socket.read_exact(&mut [0]).expect("came back");
    }
    drop(client);
    assert!(eventually(PATIENCE, || list(&near).is_empty()));
}

#[test]
fn a_tunnel_that_is_closed_resets_its_connections() {
    let (near, far) = pair();
    let (addr, accepted) = service::by_hand();
    let at = carried(&near, &far, addr);
    for (daemon, other) in [(&near, &far), (&far, &near)] {
        let mut socket = dial(at);
        let mut served = accepted.next();
        await_open(daemon, 1);
        let tunnel = only(daemon);
        let ended = close(daemon, &[tunnel.id]).expect("closed");
        assert_eq!(ended[0].id, tunnel.id);
        assert_reset(&mut socket);
        assert_reset(&mut served);
        await_open(other, 0);
        assert_eq!(list(daemon), []);
        if std::ptr::eq(daemon, &raw const near) {
            // The port is free.
            let wanted = TunnelRequest {
                listen: tcp(at),
                ..forward(far.peer_id())
            };
            assert_eq!(port(&made(&near, wanted)), at);
        }
    }
}
