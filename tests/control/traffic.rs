//! CONTROL: what moves, and limits of it.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use rp2pd::wire::pb::{
    ControlRequest, TrafficInfo, TrafficLimit, control_request::Type, event::Kind, request,
};

use super::follower::Follower;
use super::node;
use super::steering::{ask, control};
use super::support::control::typed;
use super::support::{Daemon, Handler, PATIENCE, Pipe, eventually};

const ECHO: &str = "/traffic";

fn of_peer(peer: PeerId) -> TrafficLimit {
    TrafficLimit {
        peer: Some(peer.to_bytes().into()),
        ..TrafficLimit::default()
    }
}

fn of_protocol(name: &str) -> TrafficLimit {
    TrafficLimit {
        proto: Some(name.as_bytes().to_vec().into()),
        ..TrafficLimit::default()
    }
}

fn limits(
    daemon: &Daemon,
    kind: Type,
    limits: &[TrafficLimit],
) -> Result<Vec<TrafficLimit>, String> {
    let part = ControlRequest {
        limits: limits.to_vec(),
        ..control(kind)
    };
    ask(daemon, part).map(|answer| answer.limits)
}

fn traffic(daemon: &Daemon) -> Vec<TrafficInfo> {
    let answer = ask(daemon, control(Type::Traffic)).expect("TRAFFIC");
    answer.traffic
}

fn of_name(daemon: &Daemon, name: &str) -> TrafficInfo {
    let part = ControlRequest {
        protos: vec![name.as_bytes().to_vec().into()],
        ..control(Type::Traffic)
    };
    let mut told = ask(daemon, part).expect("TRAFFIC").traffic;
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

fn of_id(daemon: &Daemon, peer: PeerId) -> TrafficInfo {
    let part = ControlRequest {
        peers: vec![peer.to_bytes().into()],
        ..control(Type::Traffic)
    };
    let mut told = ask(daemon, part).expect("TRAFFIC").traffic;
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

/// One that opens streams, one that accepts them, and the handler of the latter.
fn pair() -> (Daemon, Daemon, Handler) {
    let (from, to) = (node(&[]), node(&[]));
    let handler = Handler::unix();
    handler
        .register(&mut to.client(), &[ECHO], None)
        .expect("STREAM_HANDLER");
    from.connect_to(&to);
    (from, to, handler)
}

fn open(from: &Daemon, to: &Daemon, handler: &Handler) -> (Pipe, Pipe) {
    let opened = from.client().open_stream(to.peer_id(), &[ECHO]);
    let (_, pipe) = opened.expect("STREAM_OPEN");
    (pipe, handler.accept(PATIENCE).expect("a stream").1)
}

/// Sends so many bytes, and reads them on the other side. How long that took.
fn transfer(from: &mut Pipe, to: &mut Pipe, bytes: usize) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&vec![7; bytes]).expect("write"));
        let mut received = vec![0; bytes];
        to.read_exact(&mut received).expect("read");
        assert!(
            received.iter().all(|byte| *byte == 7),
            "nothing is lost or changed"
        );
    });
    begun.elapsed()
}

#[test]
fn payload_is_counted_by_peer_and_by_protocol() {
    const BYTES: usize = 300_000;
    let (from, to, handler) = pair();
    let (mut sending, mut receiving) = open(&from, &to, &handler);
    transfer(&mut sending, &mut receiving, BYTES);
    let told = of_name(&from, ECHO);
    assert_eq!(
        (told.sent, told.received, told.streams),
        (BYTES as u64, 0, 1)
    );
    let told = of_name(&to, ECHO);
    assert_eq!(
        (told.sent, told.received, told.streams),
        (0, BYTES as u64, 1)
    );
    transfer(&mut receiving, &mut sending, 1000);
    let told = of_name(&to, ECHO);
    assert_eq!((told.sent, told.received), (1000, BYTES as u64));
    let told = of_id(&from, to.peer_id());
    assert!(
        told.sent >= BYTES as u64 && told.received >= 1000,
        "{told:?}"
    );
    // The daemon may have streams of its own.
    assert!(told.streams >= 1, "{told:?}");
    assert_eq!((told.connections, told.waited), (1, 0));
    let status = typed(request::Type::Status);
    let status = from.client().ask(&status).expect("STATUS").status;
    let document: serde_json::Value =
        serde_json::from_slice(&status.expect("a document")).expect("JSON");
    let protocols = document["traffic"]["protocols"].as_array().expect("a list");
    let own = protocols.iter().find(|one| one["name"] == ECHO);
    assert_eq!(own.map(|one| &one["sent"]), Some(&BYTES.into()));
    let all = traffic(&from);
    assert_eq!(all.iter().filter(|one| one.peer.is_some()).count(), 1);
    drop((sending, receiving));
    let ended = || of_name(&from, ECHO).streams == 0 && of_name(&to, ECHO).streams == 0;
    assert!(eventually(PATIENCE, ended));
    assert_eq!(of_name(&from, ECHO).sent, BYTES as u64, "it stays");
}

#[test]
fn a_rate_holds_up_what_is_beyond_it_and_loses_nothing() {
    const RATE: u64 = 100_000;
    const BYTES: usize = 250_000;
    for (at_sender, by_peer) in [(true, true), (true, false), (false, true), (false, false)] {
        let (from, to, handler) = pair();
        // It holds for streams that are there already.
        let (mut sending, mut receiving) = open(&from, &to, &handler);
        let (limited, peer) = match at_sender {
            true => (&from, to.peer_id()),
            false => (&to, from.peer_id()),
        };
        let subject = match by_peer {
            true => of_peer(peer),
            false => of_protocol(ECHO),
        };
        let limit = TrafficLimit {
            send: at_sender.then_some(RATE),
            receive: (!at_sender).then_some(RATE),
            ..subject.clone()
        };
        let mut follower = Follower::of(limited, &[Kind::Limit]);
        let set = limits(limited, Type::LimitsSet, std::slice::from_ref(&limit));
        assert_eq!(set, Ok(vec![limit]));
        let took = transfer(&mut sending, &mut receiving, BYTES);
        // 2.5 s, but for what may move at once.
        assert!(
            took > Duration::from_millis(1500),
            "{at_sender} {by_peer}: {took:?}"
        );
        let told = match by_peer {
            true => of_id(limited, peer),
            false => of_name(limited, ECHO),
        };
        assert!(told.waited > 1000, "{at_sender} {by_peer}: {told:?}");
        assert_eq!(follower.next().limit(), "bandwidth");
        // The other way is free, and so is this one without the limit.
        let free = transfer(&mut receiving, &mut sending, BYTES);
        assert_eq!(limits(limited, Type::LimitsRemove, &[subject]), Ok(vec![]));
        let later = transfer(&mut sending, &mut receiving, 10 * BYTES);
        assert!(free < took && later < 10 * took, "{free:?} {later:?}");
    }
}

#[test]
fn streams_beyond_a_limit_are_reset_and_others_are_not() {
    let (from, to, handler) = pair();
    let first = open(&from, &to, &handler);
    let limit = TrafficLimit {
        streams: Some(2),
        ..of_protocol(ECHO)
    };
    limits(&to, Type::LimitsSet, std::slice::from_ref(&limit)).expect("LIMITS_SET");
    let second = open(&from, &to, &handler);
    let (_, mut third) = from
        .client()
        .open_stream(to.peer_id(), &[ECHO])
        .expect("STREAM_OPEN");
    assert!(matches!(third.read(&mut [0; 1]), Ok(0) | Err(_)), "reset");
    assert_eq!(to.bites("streams that a client has limited"), 1);
    drop((first, third));
    let freed = || of_name(&to, ECHO).streams == 1;
    assert!(eventually(PATIENCE, freed));
    let again = open(&from, &to, &handler);
    drop((second, again));
    // Those that clients of this daemon open count as well.
    let own = TrafficLimit {
        streams: Some(1),
        ..of_peer(to.peer_id())
    };
    let none = || of_id(&from, to.peer_id()).streams == 0;
    assert!(eventually(PATIENCE, none), "{:?}", traffic(&from));
    limits(&from, Type::LimitsSet, &[own]).expect("LIMITS_SET");
    let _one = open(&from, &to, &handler);
    let refused = from.client().open_stream(to.peer_id(), &[ECHO]).err();
    let text = "failed to open stream: too many streams: limited to 1";
    assert_eq!(refused.as_deref(), Some(text));
}

#[test]
fn connections_with_a_peer_are_limited() {
    let dir = tempfile::tempdir().expect("a directory");
    let identity = format!("-id={}", dir.path().join("identity").display());
    let (daemon, one) = (node(&[]), node(&["-createIdentity", &identity]));
    // Two programs with one identity are one peer.
    let two = node(&[&identity]);
    assert_eq!(one.peer_id(), two.peer_id());
    let limit = TrafficLimit {
        connections: Some(1),
        ..of_peer(one.peer_id())
    };
    limits(&daemon, Type::LimitsSet, &[limit]).expect("LIMITS_SET");
    one.connect_to(&daemon);
    // It may believe to be connected for a moment.
    let _ = two.client().connect_to(daemon.peer_id(), daemon.addrs());
    let bites = || daemon.bites("connections with one peer that a client has limited");
    assert!(eventually(PATIENCE, || bites() > 0));
    assert_eq!(of_id(&daemon, one.peer_id()).connections, 1);
    let left = || two.client().list_peers().is_empty();
    assert!(eventually(PATIENCE, left));
    assert_eq!(one.client().list_peers().len(), 1);
}

#[test]
fn what_is_no_limit_is_refused_with_a_reason() {
    let daemon = node(&[]);
    let set =
        |limit: TrafficLimit| limits(&daemon, Type::LimitsSet, &[limit]).expect_err("refused");
    let streams = |subject| TrafficLimit {
        streams: Some(1),
        ..subject
    };
    assert_eq!(
        set(streams(TrafficLimit::default())),
        "a limit names a peer, a protocol, or both"
    );
    assert_eq!(
        set(of_protocol("/a")),
        "a limit limits something: receive, send, connections or streams"
    );
    let slow = TrafficLimit {
        send: Some(1023),
        ..of_protocol("/a")
    };
    assert_eq!(
        set(slow),
        "limit of 1023 bytes per second: must be at least 1024"
    );
    let connections = TrafficLimit {
        connections: Some(1),
        ..of_protocol("/a")
    };
    assert_eq!(
        set(connections),
        "connections can be limited of a peer alone"
    );
    let long = "a".repeat(257);
    assert_eq!(
        set(streams(of_protocol(&long))),
        "protocol name of 257 bytes: must be 1 to 256 bytes long"
    );
    let unknown = limits(&daemon, Type::LimitsRemove, &[of_protocol("/a")]);
    assert_eq!(unknown, Err("no such limit".into()));
    let many: Vec<TrafficLimit> = (0..1025)
        .map(|n| streams(of_protocol(&n.to_string())))
        .collect();
    let refused = limits(&daemon, Type::LimitsSet, &many);
    assert_eq!(refused, Err("too many limits: at most 1024".into()));
    let told = limits(&daemon, Type::LimitsSet, &many[1..]).map(|told| told.len());
    assert_eq!(told, Ok(1024));
    assert_eq!(
        traffic(&daemon),
        [],
        "what is limited is not counted before it moves"
    );
}

#[test]
fn streams_that_a_limit_holds_up_are_finished_at_the_end_of_the_daemon() {
    const STREAMS: usize = 8;
    const BYTES: usize = 30_000;
    let (from, mut to, handler) = pair();
    let mut open: Vec<_> = (0..STREAMS).map(|_| open(&from, &to, &handler)).collect();
    let limit = TrafficLimit {
        receive: Some(80_000),
        ..of_protocol(ECHO)
    };
    limits(&to, Type::LimitsSet, &[limit]).expect("LIMITS_SET");
    for (sending, _) in &mut open {
        sending.write_all(&[7; BYTES]).expect("write");
        sending.socket.shutdown_write().expect("ended");
    }
    let total = (STREAMS * BYTES) as u64;
    assert!(eventually(PATIENCE, || of_name(&from, ECHO).sent == total));
    // What has not been received yet waits for the limit.
    assert!(of_name(&to, ECHO).received < total);
    std::thread::scope(|scope| {
        for (_, receiving) in &mut open {
            scope.spawn(|| {
                let mut received = Vec::new();
                let ended = receiving.read_to_end(&mut received);
                assert_eq!((received.len(), ended.is_ok()), (BYTES, true), "{ended:?}");
            });
        }
        assert!(to.terminate(PATIENCE).success());
    });
}

#[test]
fn streams_under_one_limit_have_the_same_share() {
    const STREAMS: usize = 8;
    const SHARE: usize = 40_000;
    let (from, to, handler) = pair();
    let mut open: Vec<_> = (0..STREAMS).map(|_| open(&from, &to, &handler)).collect();
    let limit = TrafficLimit {
        send: Some(100_000),
        ..of_protocol(ECHO)
    };
    limits(&from, Type::LimitsSet, &[limit]).expect("LIMITS_SET");
    let shares: Vec<_> = open.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for ((sending, receiving), share) in open.iter_mut().zip(&shares) {
            scope.spawn(|| {
                // It ends with the streams.
                let _ = sending.write_all(&[7; 10 * SHARE]);
            });
            scope.spawn(|| {
                let mut chunk = [0; 1024];
                while let Ok(n) = receiving.read(&mut chunk)
                    && n > 0
                {
                    share.fetch_add(n, Ordering::Relaxed);
                }
            });
        }
        let moved = || shares.iter().map(|one| one.load(Ordering::Relaxed));
        // Whoever begins alone has the whole rate until others come.
        assert!(eventually(PATIENCE, || moved().all(|one| one > 0)));
        let begin: Vec<usize> = moved().collect();
        let since = || moved().zip(&begin).map(|(now, begin)| now - begin);
        assert!(eventually(PATIENCE, || since().any(|one| one >= SHARE)));
        let told: Vec<usize> = since().collect();
        drop(to);
        // Each has had its turns too, of a tenth of a second's bytes each; some are on their way.
        assert!(told.iter().all(|one| *one >= SHARE / 4), "{told:?}");
    });
}
