//! Limits that can be set, at work.

use super::*;
use crate::support::Handler;

#[test]
fn connections_are_limited_as_set() {
    let daemon = node(&["-connMaxInbound=2", "-connMax=3"]);
    let peers: Vec<Daemon> = (0..4).map(|_| node(&[])).collect();
    peers[0].connect_to(&daemon);
    peers[1].connect_to(&daemon);
    let refused = peers[2]
        .client()
        .connect_to(daemon.peer_id(), daemon.addrs());
    refused.expect_err("two are the limit");
    assert!(daemon.bites("inbound connections") > 0);
    daemon.connect_to(&peers[2]);
    let refused = daemon
        .client()
        .connect_to(peers[3].peer_id(), peers[3].addrs());
    let text = refused.expect_err("three are the limit");
    assert!(text.contains("connection limit reached: 3"), "{text}");
    assert!(daemon.bites("connections") > 0);
    assert_eq!(daemon.client().list_peers().len(), 3);
}

/// Streams of `count` that stay open.
fn opened(from: &Daemon, to: &Daemon, count: usize) -> Vec<Echo> {
    let mut echoes: Vec<Echo> = (0..count)
        .filter_map(|_| {
            let opened = from.client().open_stream(to.peer_id(), &["/echo/1.0.0"]);
            opened.ok().map(|(_, pipe)| Echo(pipe))
        })
        .collect();
    echoes.retain_mut(Echo::works);
    echoes
}

#[test]
fn streams_are_limited_as_set() {
    let one = node(&["-streamsPerConn=5"]);
    let all = node(&["-streamsMax=8"]);
    let (a, b) = (node(&[]), node(&[]));
    for daemon in [&one, &all] {
        a.connect_to(daemon);
        b.connect_to(daemon);
    }
    // The library's own streams, of identify and ping, count as well while they are open.
    let of_a = opened(&a, &one, 10);
    assert!((3..=5).contains(&of_a.len()), "{}", of_a.len());
    let of_b = opened(&b, &one, 10);
    assert!((3..=5).contains(&of_b.len()), "{}", of_b.len());
    let of_both = [opened(&a, &all, 10), opened(&b, &all, 10)].map(|echoes| echoes.len());
    let sum: usize = of_both.iter().sum();
    assert!(sum <= 8, "{of_both:?}");
    for daemon in [&one, &all] {
        assert!(daemon.bites("inbound streams") > 0);
    }
    drop((of_a, of_b));
    assert!(eventually(PATIENCE, || opened(&a, &one, 1).len() == 1));
}

/// A peer whose handlers do not accept takes the turns of its own streams alone.
#[test]
fn dials_to_handlers_are_limited_for_each_peer() {
    let daemon = node(&[]);
    // The queue of a listener that never accepts is soon full; what comes then waits.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("deaf.sock");
    let raw = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let deaf = raw.expect("a socket");
    deaf.bind(&socket2::SockAddr::unix(&path).expect("a path"))
        .expect("bind");
    deaf.listen(0).expect("listen");
    let mut request = support::control::typed(rp2pd::wire::pb::request::Type::StreamHandler);
    request.stream_handler = Some(rp2pd::wire::pb::StreamHandlerRequest {
        addr: Some(support::Control::Unix(path).to_bytes().into()),
        proto: vec!["/deaf".into()],
        balanced: None,
    });
    daemon.client().ask(&request).expect("register");
    let quick = Handler::unix();
    quick
        .register(&mut daemon.client(), &["/quick"], None)
        .expect("register");
    let (busy, other) = (node(&[]), node(&[]));
    busy.connect_to(&daemon);
    other.connect_to(&daemon);
    let pipes: Vec<Pipe> = (0..300)
        .map(|_| {
            let opened = busy.client().open_stream(daemon.peer_id(), &["/deaf"]);
            opened.expect("open").1
        })
        .collect();
    let limit = "handler connections being made for one peer";
    assert!(eventually(PATIENCE, || daemon.bites(limit) > 0));
    let (_, pipe) = other
        .client()
        .open_stream(daemon.peer_id(), &["/quick"])
        .expect("open");
    quick.accept(PATIENCE).expect("another peer's stream");
    drop((pipe, pipes));
}
