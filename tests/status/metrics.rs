//! Metrics: go-libp2p's boards find their series, and each series moves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use libp2p::{Multiaddr, PeerId};
use rp2pd::wire::pb::{DhtRequest, PsRequest, Request, dht_request, ps_request, request};

use super::support::{
    Daemon, Handler, Launch, PATIENCE,
    control::typed,
    eventually,
    metrics::{Sample, samples, scrape, value},
    raw,
    relay::End,
};
use super::{number, status};

/// Queries of go-libp2p's boards that rp2pd can answer: board, query.
const BOARDS: &str = include_str!("boards.tsv");

/// Queries among them that find nothing, as parts of their text, and why.
const ABSENT: [(&str, &str); 3] = [
    ("memory{scope=\"protocol\"", "memory is counted as a whole"),
    ("memory{scope=\"service\"", "memory is counted as a whole"),
    (
        "early_muxer=\"true\"",
        "the library has no early negotiation of multiplexers",
    ),
];

/// Families that stay at 0 in the daemon of the test, and the text of the test in which they move.
const STILL: [(&str, &str); 15] = [
    (
        "libp2p_holepunch_direct_dials",
        include_str!("../punch/metrics.rs"),
    ),
    (
        "libp2p_holepunch_outcomes",
        include_str!("../punch/metrics.rs"),
    ),
    (
        "libp2p_holepunch_address_outcomes",
        include_str!("../punch/metrics.rs"),
    ),
    (
        "libp2p_autonat_reachability_status_confidence",
        include_str!("../reach/autonat.rs"),
    ),
    (
        "libp2p_autonat_reachability_status",
        include_str!("metrics.rs"),
    ),
    ("libp2p_rcmgr_blocked_resources", include_str!("metrics.rs")),
    ("rp2pd_memory_pressure", include_str!("../limits/memory.rs")),
    ("rp2pd_pubsub_lost", include_str!("metrics.rs")),
    ("rp2pd_log_lines_lost", include_str!("metrics.rs")),
    ("rp2pd_dht_queries_in_flight", include_str!("metrics.rs")),
    (
        "rp2pd_bootstrap_peers_connected",
        include_str!("metrics.rs"),
    ),
    ("rp2pd_tunnel_count", include_str!("../tunnels/seen.rs")),
    (
        "rp2pd_tunnel_open_connections",
        include_str!("../tunnels/seen.rs"),
    ),
    (
        "rp2pd_tunnel_connections",
        include_str!("../tunnels/seen.rs"),
    ),
    ("rp2pd_tunnel_bytes", include_str!("../tunnels/seen.rs")),
];

/// The selectors of a query: name, and the labels with the values of which it wants one.
fn selectors(query: &str) -> Vec<(String, BTreeMap<String, Vec<String>>)> {
    let mut found = Vec::new();
    for (start, _) in query.match_indices("libp2p_") {
        let rest = &query[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let inner = rest
            .trim_start()
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'));
        let mut wanted = BTreeMap::new();
        for part in inner.map_or("", |(inner, _)| inner).split(',') {
            // The boards fill in the instance.
            let found = part.split_once('=').filter(|_| !part.contains("$instance"));
            if let Some((label, value)) = found {
                let value = value.trim_start_matches('~').trim_matches('"');
                let values = value.split('|').map(str::to_owned).collect();
                wanted.insert(label.trim().to_owned(), values);
            }
        }
        found.push((name.to_owned(), wanted));
    }
    found
}

fn connect(from: &Daemon, peer: PeerId, addrs: &[Multiaddr]) -> Result<(), String> {
    from.client().connect_to(peer, addrs)
}

fn publish(daemon: &Daemon, kind: ps_request::Type) -> rp2pd::wire::pb::Response {
    let request = Request {
        pubsub: Some(PsRequest {
            r#type: Some(i32::from(kind).into()),
            topic: Some("news".into()),
            data: Some(b"new".to_vec().into()),
        }),
        ..typed(request::Type::Pubsub)
    };
    let mut client = daemon.client();
    let answer = client.request(&request).expect("an answer");
    if kind == ps_request::Type::Subscribe {
        // It lasts as long as the daemon.
        std::mem::forget(client);
    }
    answer
}

fn wait_for(daemon: &Daemon, what: &str, condition: impl Fn(&[Sample]) -> bool) {
    let held = eventually(PATIENCE, || condition(&samples(&scrape(daemon))));
    assert!(held, "{what}: {}", scrape(daemon));
}

/// PROVIDE, of the hash of nothing.
fn provide() -> Request {
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let digest = (0..32).map(|at| u8::from_str_radix(&digest[2 * at..][..2], 16).expect("hex"));
    let cid: Vec<u8> = [0x12, 0x20].into_iter().chain(digest).collect();
    Request {
        dht: Some(DhtRequest {
            r#type: Some(i32::from(dht_request::Type::Provide).into()),
            cid: Some(cid.into()),
            ..DhtRequest::default()
        }),
        ..typed(request::Type::Dht)
    }
}

/// A call each way that is answered, and one that is under way for as long as the daemons live.
fn calls(daemon: &Daemon, other: &Daemon) {
    for (from, to) in [(daemon, other), (other, daemon)] {
        let (mut caller, mut callee) = (from.persistent(), to.persistent());
        callee.add("/seen/call", false).expect("a handler");
        for answered in [true, false] {
            let id = caller.begin(to.peer_id(), "/seen/call", b"question");
            let call = callee.incoming().expect("a call");
            if answered {
                callee
                    .answer(&call.id, Ok(b"answer".to_vec()))
                    .expect("send");
                assert_eq!(caller.outcome(&id).response(), b"answer");
            }
        }
        std::mem::forget((caller, callee));
    }
}

/// A circuit through the daemon that has ended, one that is refused, and a reservation that holds.
/// Who holds it.
fn circuit(daemon: &Daemon) -> End {
    let (source, destination) = (End::new(daemon), End::new(daemon));
    assert_ne!(source.called(daemon, destination.peer_id()), Some(100));
    destination.reserved(daemon);
    destination.reserved(daemon);
    assert_ne!(source.reserve(daemon).status, Some(100), "one is all");
    let (mut near, mut far) = source.circuit(daemon, &destination);
    near.write_all(b"word").expect("send");
    far.read_exact(&mut [0; 4]).expect("what was sent");
    drop((near, far));
    // It is over before the caller leaves.
    wait_for(daemon, "the end of the circuit", |now| {
        value(
            now,
            "libp2p_relaysvc_connection_duration_seconds_count",
            &[],
        ) >= 1.0
    });
    source.leave();
    destination
}

/// A daemon in whose life everything has happened once, and those that it has met.
fn lively() -> (Daemon, Vec<Daemon>, Vec<Handler>, End) {
    let all = ["-dhtServer", "-pubsub", "-dhtNamespace=seen"];
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1";
    let daemon = Launch::new()
        .args([
            "-metricsAddr=127.0.0.1:0",
            listen,
            "-persistentConnMaxMsgSize=65536",
            "-autonat",
            "-relayMaxReservations=1",
        ])
        .args(all)
        .spawn();
    let others: Vec<_> = (0..2)
        .map(|_| {
            Launch::new()
                .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
                .args(all)
                .spawn()
        })
        .collect();
    connect(&daemon, others[0].peer_id(), others[0].addrs()).expect("connect");
    connect(&others[1], daemon.peer_id(), daemon.addrs()).expect("connect");
    // An address where nobody listens.
    let dead: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    connect(&daemon, PeerId::random(), &[dead]).expect_err("nobody is there");
    // A connection that ends.
    let gone = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1"]);
    connect(&daemon, gone.peer_id(), gone.addrs()).expect("connect");
    daemon.client().disconnect(gone.peer_id());
    // A handler that comes is pushed, and so is one of the others.
    let handlers = vec![Handler::unix(), Handler::unix()];
    for (handler, daemon) in handlers.iter().zip([&daemon, &others[0]]) {
        let registered = handler.register(&mut daemon.client(), &["/seen/1.0.0"], None);
        registered.expect("a handler");
    }
    // Streams in both directions; those of the test stay open.
    for (from, to) in [(&daemon, &others[0]), (&others[1], &daemon)] {
        let opened = from.client().open_stream(to.peer_id(), &["/echo/1.0.0"]);
        let (_, mut pipe) = opened.expect("a stream");
        pipe.write_all(b"x").expect("send");
        std::mem::forget(pipe);
    }
    for daemon in others.iter().chain([&daemon]) {
        publish(daemon, ps_request::Type::Subscribe);
    }
    wait_for(&daemon, "a mesh", |now| {
        value(now, "rp2pd_pubsub_mesh_peers", &[]) >= 2.0
    });
    publish(&daemon, ps_request::Type::Publish);
    calls(&daemon, &others[0]);
    let called = circuit(&daemon);
    // A peer in the neighbourhood is not dialed.
    let opened = others[1]
        .client()
        .open_stream(daemon.peer_id(), &["/libp2p/autonat/1.0.0"]);
    let info = raw::bytes(1, &raw::bytes(1, &others[1].peer_id().to_bytes()));
    let (_, mut pipe) = opened.expect("a stream");
    pipe.write_all(&raw::frame(
        &[raw::int(1, 0), raw::bytes(2, &info)].concat(),
    ))
    .expect("send");
    pipe.read_exact(&mut [0]).expect("an answer");
    let put = Request {
        dht: Some(DhtRequest {
            r#type: Some(i32::from(dht_request::Type::PutValue).into()),
            key: Some(b"/seen/key".to_vec().into()),
            value: Some(b"value".to_vec().into()),
            ..DhtRequest::default()
        }),
        ..typed(request::Type::Dht)
    };
    for daemon in [&daemon, &others[0]] {
        daemon.client().ask(&put).expect("a record");
    }
    daemon.client().ask(&provide()).expect("an announcement");
    // A frame above the limit, and one that is no request.
    for bytes in [vec![0; 100_000], vec![0xff; 10]] {
        let mut client = daemon.client();
        client.send_raw(&raw::frame(&bytes)).expect("send");
        let _ = client.receive::<rp2pd::wire::pb::Response>();
    }
    (daemon, others, handlers, called)
}

#[test]
fn boards_find_their_series_and_each_series_moves() {
    let (daemon, others, _handlers, _called) = lively();
    // A connection that is never upgraded, and a stream that is never negotiated.
    let mut silent = std::net::TcpStream::connect(tcp(&daemon)).expect("connect");
    silent.write_all(b"\x13/multistream/1.0.0\n").expect("send");
    wait_for(&daemon, "what is under way", |now| {
        let pending = [("dir", "inbound"), ("scope", "transient")];
        value(now, "libp2p_rcmgr_connections", &pending) >= 1.0
            && value(now, "rp2pd_dht_requests_total", &[]) >= 1.0
            && value(
                now,
                "libp2p_identify_identify_push_total",
                &[("dir", "inbound")],
            ) >= 1.0
            && value(
                now,
                "libp2p_identify_identify_push_total",
                &[("dir", "outbound")],
            ) >= 1.0
            && value(now, "libp2p_identify_identify_total", &[("dir", "inbound")]) >= 1.0
            && value(now, "rp2pd_memory_used_bytes", &[]) >= 1.0
            && value(
                now,
                "libp2p_relaysvc_connection_duration_seconds_count",
                &[],
            ) >= 1.0
            && value(now, "rp2pd_calls_in_flight", &[]) >= 2.0
    });
    let text = scrape(&daemon);
    let told = samples(&text);
    let mut compared = 0;
    for line in BOARDS.lines() {
        let (board, query) = line.split_once('\t').expect("two cells");
        let is_absent = ABSENT.iter().any(|(part, _)| query.contains(part));
        for (name, wanted) in selectors(query) {
            // Where nobody has a public address nobody is asked: reach::autonat looks at it.
            if name == "libp2p_autonat_received_dial_response_total" {
                continue;
            }
            compared += 1;
            let found = told.iter().any(|(told, labels, _)| {
                let fits = |(key, values): (&String, &Vec<String>)| {
                    labels.get(key).is_some_and(|value| values.contains(value))
                };
                *told == name && wanted.iter().all(fits)
            });
            assert_eq!(
                found, !is_absent,
                "{board}: {query}: {name} {wanted:?}\n{text}"
            );
        }
    }
    assert!(compared > 80, "only {compared} selectors found");
    let families: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let is_of = |name: &str, family: &str| {
        let end = name.strip_prefix(family);
        end.is_some_and(|end| ["", "_total", "_bucket", "_sum", "_count"].contains(&end))
    };
    let moved = |family: &str| {
        told.iter()
            .any(|(name, _, value)| is_of(name, family) && *value != 0.0)
    };
    for (name, _, _) in &told {
        assert!(families.iter().any(|family| is_of(name, family)), "{name}");
    }
    let still = |family: &str| STILL.iter().any(|(still, _)| *still == family);
    let unmoved: Vec<_> = families
        .iter()
        .filter(|family| !moved(family) && !still(family))
        .collect();
    assert!(unmoved.is_empty(), "nothing moves {unmoved:?}:\n{text}");
    for (family, test) in STILL {
        assert!(families.contains(family), "{family} is there");
        let named = test.matches(family).count();
        // This file names it in the list as well.
        let needed = if test.contains("const STILL") { 2 } else { 1 };
        assert!(named >= needed, "no test moves {family}");
    }
    drop(others);
}

/// The first tcp address of a daemon.
fn tcp(daemon: &Daemon) -> std::net::SocketAddr {
    let all = daemon.addrs().iter().map(ToString::to_string);
    let text = { all }.find(|text| text.contains("/tcp/")).expect("tcp");
    let parts: Vec<&str> = text.split('/').collect();
    format!("{}:{}", parts[2], parts[4])
        .parse()
        .expect("an address")
}

#[test]
fn labels_hold_nothing_that_a_stranger_chooses() {
    let (daemon, others, _handlers, _called) = lively();
    // A name that this daemon does not handle, from a peer and from a client.
    let odd = "/chosen-by-a-stranger/1.0.0";
    others[1]
        .client()
        .open_stream(daemon.peer_id(), &[odd])
        .expect_err("nobody handles it");
    daemon
        .client()
        .open_stream(others[0].peer_id(), &[odd])
        .expect_err("nobody handles it");
    let text = scrape(&daemon);
    assert!(!text.contains("chosen-by-a-stranger"), "{text}");
    for other in &others {
        assert!(!text.contains(&other.peer_id().to_base58()), "{text}");
    }
    assert!(!text.contains("/ip4/"), "{text}");
    let series = |text: &str| -> BTreeSet<String> {
        let named = samples(text).into_iter();
        named
            .map(|(name, labels, _)| format!("{name}{labels:?}"))
            .collect()
    };
    // More of the same adds no series.
    let before = series(&text);
    for _ in 0..20 {
        let opened = others[1]
            .client()
            .open_stream(daemon.peer_id(), &["/echo/1.0.0"]);
        drop(opened.expect("a stream"));
    }
    assert_eq!(series(&scrape(&daemon)), before);
}

#[test]
fn numbers_are_those_of_the_status() {
    let (daemon, others, _handlers, _called) = lively();
    // Those that were met on the way have left.
    wait_for(&daemon, "three peers", |now| {
        value(now, "rp2pd_peers", &[]) == 3.0
    });
    let now = status(&daemon);
    let told = samples(&scrape(&daemon));
    assert_eq!(number(&now, "/peers_connected"), 3);
    let opened = value(&told, "libp2p_swarm_connections_opened_total", &[]);
    let closed = value(&told, "libp2p_swarm_connections_closed_total", &[]);
    assert!(opened >= 5.0 && opened - closed == 3.0, "{opened} {closed}");
    let labels = [
        ("dir", "outbound"),
        ("transport", "tcp"),
        ("muxer", "/yamux/1.0.0"),
        ("ip_version", "ip4"),
    ];
    assert!(value(&told, "libp2p_swarm_connections_opened_total", &labels) >= 1.0);
    let refused = [
        ("transport", "tcp"),
        ("error", "connection refused"),
        ("ip_version", "ip4"),
    ];
    assert!(value(&told, "libp2p_swarm_dial_errors_total", &refused) >= 1.0);
    let success = [("outcome", "success"), ("num_dials", "1")];
    assert!(value(&told, "libp2p_swarm_dials_per_peer_total", &success) >= 2.0);
    let keys = value(
        &told,
        "libp2p_swarm_key_types_total",
        &[("key_type", "Ed25519")],
    );
    assert_eq!(keys, opened);
    let pipes = [("kind", "pipe")];
    assert_eq!(value(&told, "rp2pd_control_connections", &pipes), 1.0);
    let served = [("verb", "dht"), ("outcome", "ok")];
    assert_eq!(value(&told, "rp2pd_control_requests_total", &served), 2.0);
    let refused = [("verb", "connect"), ("outcome", "error")];
    assert_eq!(value(&told, "rp2pd_control_requests_total", &refused), 1.0);
    let echo = [
        ("dir", "inbound"),
        ("scope", "protocol"),
        ("protocol", "/echo/1.0.0"),
    ];
    assert_eq!(value(&told, "libp2p_rcmgr_streams", &echo), 1.0);
    drop(others);
}

#[test]
fn reachability_and_bootstrap_are_told() {
    let other = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    let peer = format!("{}/p2p/{}", other.addrs()[0], other.peer_id());
    let daemon = Launch::new()
        .args([
            "-metricsAddr=127.0.0.1:0",
            "-forceReachabilityPrivate",
            "-b",
        ])
        .args([format!("-bootstrapPeers={peer}")])
        .spawn();
    let told = samples(&scrape(&daemon));
    assert_eq!(value(&told, "libp2p_autonat_reachability_status", &[]), 2.0);
    assert_eq!(value(&told, "rp2pd_bootstrap_peers_connected", &[]), 1.0);
    assert_eq!(value(&told, "rp2pd_ready", &[]), 1.0);
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_resource_manager() {
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
    let daemon = Launch::new()
        .args(["-metricsAddr=127.0.0.1:0", listen, "-connMaxInbound=1"])
        .spawn();
    let others = [Daemon::spawn(&[listen]), Daemon::spawn(&[listen])];
    for other in &others {
        let _ = connect(other, daemon.peer_id(), daemon.addrs());
    }
    wait_for(&daemon, "a refusal", |now| {
        let blocked = [
            ("dir", "inbound"),
            ("scope", "system"),
            ("resource", "connection"),
        ];
        value(now, "libp2p_rcmgr_blocked_resources", &blocked) >= 1.0
            && value(now, "rp2pd_limit_hits_total", &[("limit", "inbound")]) >= 1.0
    });
}

/// What a query finds takes less time than a look, unless its peer hangs.
#[test]
fn queries_under_way_are_counted() {
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
    let daemon = Launch::new()
        .args(["-metricsAddr=127.0.0.1:0", listen, "-dhtServer"])
        .spawn();
    let other = Daemon::spawn(&[listen, "-dhtServer"]);
    daemon.connect_to(&other);
    wait_for(&daemon, "a table", |now| {
        value(now, "rp2pd_dht_table_peers", &[]) >= 1.0
    });
    other.signal(rustix::process::Signal::STOP);
    let mut client = daemon.client();
    client.send(&provide()).expect("send");
    wait_for(&daemon, "a query", |now| {
        value(now, "rp2pd_dht_queries_in_flight", &[]) >= 1.0
    });
    drop(client);
    wait_for(&daemon, "its end", |now| {
        let given_up = [("verb", "provide"), ("outcome", "abandoned")];
        value(now, "rp2pd_dht_query_seconds_count", &given_up) >= 1.0
    });
    other.signal(rustix::process::Signal::CONT);
}

#[test]
fn messages_that_a_slow_subscriber_loses_are_counted() {
    let daemon = Launch::new()
        .args(["-metricsAddr=127.0.0.1:0", "-noListenAddrs", "-pubsub"])
        .spawn();
    let _slow = daemon.subscribe("t");
    let mut client = daemon.client();
    for _ in 0..1000 {
        client.publish("t", &[7; 16 << 10]).expect("PUBLISH");
    }
    wait_for(&daemon, "a loss", |now| {
        value(now, "rp2pd_pubsub_lost_total", &[("where", "subscriber")]) >= 1.0
    });
}

#[test]
fn log_lines_that_nobody_reads_are_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let listen = dir.path().join("s");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let metrics = free.expect("a port");
    let (_unread, full) = super::support::output::full_pipe();
    let mut child = Command::new(super::support::daemon::binary_under_test())
        .arg(format!("-listen=/unix{}", listen.display()))
        .args(["-noListenAddrs", &format!("-metricsAddr={metrics}")])
        .env("GOLOG_LOG_LEVEL", "debug")
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .expect("a daemon");
    let lost = eventually(PATIENCE, || {
        for _ in 0..200 {
            let stream = std::os::unix::net::UnixStream::connect(&listen);
            // Each frame that cannot be read is worth a line.
            let _ = stream.and_then(|mut stream| stream.write_all(b"\x01\xff"));
        }
        let Ok(_) = std::net::TcpStream::connect(metrics) else {
            return false;
        };
        let (_, text) = super::support::metrics::get(metrics, "/metrics");
        value(&samples(&text), "rp2pd_log_lines_lost_total", &[]) >= 1.0
    });
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(lost, "nothing is lost");
}
