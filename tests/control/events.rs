//! EVENTS: in order, complete, and no burden when nobody reads.

use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use rp2pd::wire::pb::{
    Event, PsMessage, Request,
    event::{Cause, Kind, Reachability},
    request,
};

use super::follower::{Follower, peer_of, wanted};
use super::node;
use super::support::by_hand::ByHand;
use super::support::control::typed;
use super::support::rpc::{Peer, subscription};
use super::support::{Daemon, Handler, PATIENCE, eventually};

/// Events that the daemon keeps for those that have not read them.
const KEPT: usize = 16 * 1024;

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    let (watched, other) = (node(&[]), node(&[]));
    let mut follower = Follower::of(&watched, &[]);
    other.connect_to(&watched);
    let connected = follower.next();
    assert_eq!(
        (connected.kind(), peer_of(&connected)),
        (Kind::PeerConnected, other.peer_id())
    );
    let connection = connected.connection.clone().expect("a connection");
    assert!(!connection.dialed && !connection.relayed && connected.connections == Some(1));
    let remote = Multiaddr::try_from(connection.addr.to_vec()).expect("an address");
    assert!(
        remote.to_string().starts_with("/ip4/127.0.0.1/tcp/"),
        "{remote}"
    );

    let identified = follower.next_of(Kind::PeerIdentified);
    assert_eq!(peer_of(&identified), other.peer_id());
    assert!(
        identified
            .agent
            .as_deref()
            .is_some_and(|agent| agent.starts_with(b"rp2pd/"))
    );
    assert!(
        identified
            .protos
            .iter()
            .any(|name| name == "/ipfs/id/1.0.0")
    );
    let addrs: Vec<_> = other.addrs().iter().map(Multiaddr::to_vec).collect();
    assert_eq!(identified.addrs, addrs);

    other.client().disconnect(watched.peer_id());
    let gone = follower.next_of(Kind::PeerDisconnected);
    assert_eq!((gone.cause(), gone.connections), (Cause::Remote, Some(0)));
    assert_eq!(gone.connection, Some(connection));
    assert!(identified.time >= connected.time && gone.time >= identified.time);

    watched.connect_to(&other);
    let connected = follower.next_of(Kind::PeerConnected);
    assert!(connected.connection.expect("a connection").dialed);
    watched.client().disconnect(other.peer_id());
    assert_eq!(
        follower.next_of(Kind::PeerDisconnected).cause(),
        Cause::Local
    );
}

#[test]
fn each_transport_tells_who_has_closed() {
    for transport in ["tcp/0", "tcp/0/ws", "udp/0/quic-v1"] {
        let address = format!("-hostAddrs=/ip4/127.0.0.1/{transport}");
        let (watched, other) = (Daemon::spawn(&[&address]), Daemon::spawn(&[&address]));
        let mut follower = Follower::of(&watched, &[Kind::PeerDisconnected]);
        other.connect_to(&watched);
        other.client().disconnect(watched.peer_id());
        let gone = follower.next();
        assert_eq!(gone.cause(), Cause::Remote, "{transport}: {gone:?}");
        other.connect_to(&watched);
        drop(other);
        let gone = follower.next();
        assert_ne!(gone.cause(), Cause::Local, "{transport}: {gone:?}");
    }
}

#[test]
fn only_what_is_asked_for_comes() {
    let (watched, other) = (node(&["-pubsub"]), node(&[]));
    let mut client = watched.client();
    let refused = client.ask(&Request {
        events: Some(rp2pd::wire::pb::EventsRequest {
            kinds: vec![1, 99],
            present: None,
        }),
        ..typed(request::Type::Events)
    });
    assert_eq!(refused, Err("unknown event kind 99".into()));
    let mut topics = Follower::of(&watched, &[Kind::TopicJoined, Kind::TopicLeft]);
    let mut nothing = Follower::of(&watched, &[Kind::Missed]);
    other.connect_to(&watched);
    let subscribed = watched.subscribe("t");
    let joined = topics.next();
    assert_eq!(
        (joined.kind(), joined.peer.clone()),
        (Kind::TopicJoined, None)
    );
    assert_eq!(joined.topic.as_deref(), Some(&b"t"[..]));
    drop(subscribed);
    assert_eq!(topics.next().kind(), Kind::TopicLeft);
    nothing.assert_silent();
    // Without parameters it is everything.
    let mut all = Follower::begun(&watched, &typed(request::Type::Events));
    other.client().disconnect(watched.peer_id());
    assert_eq!(all.next().kind(), Kind::PeerDisconnected);
    // Requests are read and ignored, what is none ends it.
    all.0.send(&typed(request::Type::Identify)).expect("send");
    all.assert_silent();
    all.0.send_raw(&[0; 4]).expect("send");
    assert!(all.0.receive::<PsMessage>().is_err(), "closed");
}

#[test]
fn what_is_there_already_comes_first() {
    let (watched, other) = (
        node(&["-pubsub", "-forceReachabilityPublic"]),
        node(&["-pubsub"]),
    );
    watched.connect_to(&other);
    let _subscribed = watched.subscribe("t");
    let mut follower = Follower::begun(&watched, &wanted(&[], true));
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = follower.next();
        if event.present() {
            seen.push(event);
        }
    }
    let kinds: Vec<Kind> = seen.iter().map(Event::kind).collect();
    let expected = [
        Kind::PeerConnected,
        Kind::PeerIdentified,
        Kind::Addresses,
        Kind::Reachability,
        Kind::TopicJoined,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(peer_of(&seen[0]), other.peer_id());
    let id = seen[0].connection.as_ref().expect("a connection").id;
    assert_eq!(seen[3].reachability(), Reachability::Public);
    watched.client().disconnect(other.peer_id());
    let gone = follower.next_of(Kind::PeerDisconnected);
    assert_eq!(gone.connection.expect("a connection").id, id);
    assert!(gone.present.is_none());
}

#[test]
fn a_handler_that_fails_is_told() {
    let (watched, other) = (node(&[]), node(&[]));
    let handler = Handler::unix();
    handler
        .register(&mut watched.client(), &["/gone"], None)
        .expect("STREAM_HANDLER");
    drop(handler);
    let mut follower = Follower::of(&watched, &[Kind::HandlerFailed]);
    other.connect_to(&watched);
    let opened = other.client().open_stream(watched.peer_id(), &["/gone"]);
    let failed = follower.next();
    drop(opened);
    assert_eq!(peer_of(&failed), other.peer_id());
    assert_eq!(failed.proto.as_deref(), Some(&b"/gone"[..]));
    assert!(
        failed.reason().contains("No such file"),
        "{}",
        failed.reason()
    );
    assert_eq!(failed.addrs.len(), 1);
}

#[test]
fn a_limit_that_bites_is_told_once_a_second() {
    let watched = node(&[]);
    let mut follower = Follower::of(&watched, &[Kind::Limit]);
    for _ in 0..3 {
        let mut client = watched.client();
        client.send_raw(&[0xff, 0xff, 0xff, 0x7f]).expect("send");
        let _ = client.receive::<PsMessage>();
    }
    let mut count = 0;
    while count < 3 {
        let bitten = follower.next();
        assert_eq!((bitten.kind(), bitten.limit()), (Kind::Limit, "frame_size"));
        count += bitten.count();
    }
    assert_eq!(count, 3);
}

/// Peers that come and go, on connections of their own.
fn come_and_go(daemon: &Daemon, count: usize) {
    const AT_ONCE: usize = 4;
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                for _ in 0..count / AT_ONCE {
                    drop(ByHand::connect(daemon));
                }
            });
        }
    });
}

#[test]
fn ten_thousand_connections_are_told_in_order_and_completely() {
    const COUNT: usize = 10_000;
    let watched = node(&["-plaintext", "-noise=false", "-tls=false"]);
    let kinds = [Kind::PeerConnected, Kind::PeerDisconnected];
    let mut follower = Follower::of(&watched, &kinds);
    std::thread::scope(|scope| {
        scope.spawn(|| come_and_go(&watched, COUNT));
        let (mut begun, mut open) = (0, std::collections::HashMap::new());
        let mut ended = 0;
        while ended < COUNT {
            let event = follower.next();
            let id = event.connection.as_ref().expect("a connection").id;
            match event.kind() {
                Kind::PeerConnected => {
                    begun += 1;
                    assert_eq!(id, begun, "one after the other");
                    open.insert(id, peer_of(&event));
                }
                Kind::PeerDisconnected => {
                    assert_eq!(open.remove(&id), Some(peer_of(&event)), "it was open");
                    ended += 1;
                }
                kind => panic!("{kind:?}"),
            }
        }
        assert_eq!((begun, open.len()), (COUNT as u64, 0));
    });
    follower.assert_silent();
}

/// A peer subscribes to so many topics, and unsubscribes: two events each.
fn churn(watched: &Daemon, topics: u32) -> Peer {
    let mut peer = Peer::of(watched);
    for subscribe in [true, false] {
        for start in (0..topics).step_by(1000) {
            let rpc: Vec<u8> = (start..start + 1000)
                .flat_map(|n| subscription(subscribe, format!("{n:06}").as_bytes()))
                .collect();
            peer.say(&rpc);
        }
    }
    peer
}

#[test]
fn a_slow_reader_is_told_how_much_it_has_missed() {
    const TOPICS: u32 = 10_000;
    let watched = node(&["-pubsub"]);
    let kinds = [Kind::TopicJoined, Kind::TopicLeft];
    let (mut slow, mut quick) = (
        Follower::of(&watched, &kinds),
        Follower::of(&watched, &kinds),
    );
    let total = 2 * u64::from(TOPICS);
    let reading = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut told = 0;
            while told < total {
                let event = quick.next();
                told += if event.kind() == Kind::Missed {
                    event.count()
                } else {
                    1
                };
            }
            told
        });
        let _peer = churn(&watched, TOPICS);
        reading.join().expect("the reader")
    });
    assert_eq!(reading, total);
    let (mut told, mut missed) = (0, 0);
    while told + missed < total {
        let event = slow.next();
        match event.kind() {
            Kind::Missed => missed += event.count(),
            _ => told += 1,
        }
    }
    assert_eq!(told + missed, total);
    assert!(
        missed > 0 && told as usize >= KEPT,
        "{told} told, {missed} missed"
    );
    slow.assert_silent();
}

#[test]
fn ten_thousand_readers_that_never_read_do_no_harm() {
    let watched = node(&["-pubsub"]);
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let wanted_count = usize::try_from(limit / 2).unwrap_or(usize::MAX).min(10_000);
    let before = watched.rss_kib();
    let request = wanted(&[], false);
    let mut readers: Vec<_> = (0..wanted_count).map(|_| watched.client()).collect();
    // The daemon serves as many as it may, the others wait to be accepted.
    let served = wanted_count.min(8000);
    for reader in &mut readers[..served] {
        reader.send(&request).expect("send");
    }
    drop(readers.split_off(served));
    for reader in &mut readers {
        reader.receive::<rp2pd::wire::pb::Response>().expect("OK");
    }
    let mut peer = churn(&watched, 10_000);
    let started = Instant::now();
    let _ = watched.client().identify();
    let took = started.elapsed();
    println!(
        "{served} readers, identify after {took:?}, {} KiB more",
        watched.rss_kib() - before
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    let per_reader = watched.rss_kib().saturating_sub(before) / served as u64;
    assert!(
        per_reader < 24,
        "{per_reader} KiB for a reader that does not read"
    );
    // What happens goes on to be told.
    let mut follower = Follower::of(&watched, &[Kind::TopicJoined]);
    peer.say(&subscription(true, b"last"));
    while follower.next_of(Kind::TopicJoined).topic() != b"last" {}
    drop(readers);
    let leaves = || watched.client().identify().0 == watched.peer_id();
    assert!(eventually(PATIENCE, leaves));
}

#[test]
fn the_end_of_the_daemon_ends_the_events() {
    let mut watched = node(&[]);
    let mut follower = Follower::of(&watched, &[]);
    let status = watched.terminate(PATIENCE);
    assert!(status.success(), "{status}");
    assert!(follower.0.receive::<PsMessage>().is_err());
}
