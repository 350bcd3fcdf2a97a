//! Metrics: go-libp2p's boards find their series, and each series moves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use libp2p::{Multiaddr, PeerId};
use rp2pd::wire::pb::{DhtRequest, PsRequest, Request, dht_request, ps_request, request};

use super::http::{address, get};
use super::support::{Daemon, Handler, Launch, PATIENCE, control::typed, eventually, raw};
use super::{number, status};

/// Queries of go-libp2p's boards that rp2pd can answer: board, query.
const BOARDS: &str = include_str!("boards.tsv");

/// Queries among them that find nothing, as parts of their text, and why.
const ABSENT: [(&str, &str); 4] = [
    (
        "transport=~\"quic|quic-v1\"",
        "the library does not tell how long a quic handshake took",
    ),
    ("memory{scope=\"protocol\"", "memory is counted as a whole"),
    ("memory{scope=\"service\"", "memory is counted as a whole"),
    (
        "early_muxer=\"true\"",
        "the library has no early negotiation of multiplexers",
    ),
];

/// Families that stay at 0 in the daemon of the test, and where they move.
const STILL: [(&str, &str); 8] = [
    (
        "libp2p_autonat_reachability_status_confidence",
        "autonat has nodes that ask",
    ),
    (
        "libp2p_rcmgr_blocked_resources",
        "the last test has a refusal",
    ),
    (
        "libp2p_autonat_reachability_status",
        "0 is unknown; the last test has another",
    ),
    ("rp2pd_memory_pressure", "limits::memory fills the memory"),
    ("rp2pd_pubsub_lost_total", "pubsub::slow has slow readers"),
    (
        "rp2pd_dht_queries_in_flight",
        "a query takes less time than a look",
    ),
    ("rp2pd_bootstrap_peers_connected", "the last test has one"),
    ("rp2pd_dht_providers", "dht::served announces"),
];

/// Every sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a quote");
        found.insert(name.trim_matches([',', ' ']).to_owned(), value.to_owned());
        rest = after;
    }
    found
}

fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value = value
                .parse()
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let (name, inner) = series.split_once('{').unwrap_or((series, ""));
            (name.to_owned(), labels(inner.trim_end_matches('}')), value)
        })
        .collect()
}

fn scrape(daemon: &Daemon) -> String {
    let (head, body) = get(address(daemon), "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.ends_with("# EOF\n"));
    body
}

/// The selectors of a query: name, and the labels with the values of which it wants one.
fn selectors(query: &str) -> Vec<(String, BTreeMap<String, Vec<String>>)> {
    let mut found = Vec::new();
    for (start, _) in query.match_indices("libp2p_") {
        let rest = &query[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
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

fn value(samples: &[Sample], name: &str, wanted: &[(&str, &str)]) -> f64 {
    let fits = |labels: &BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(name, value)| labels.get(*name).is_some_and(|told| told == value))
    };
    let found = samples
        .iter()
        .filter(|(told, labels, _)| told == name && fits(labels));
    found.map(|(_, _, value)| value).sum()
}

/// A daemon in whose life everything has happened once, and those that it has met.
fn lively() -> (Daemon, Vec<Daemon>, Vec<Handler>) {
    let all = ["-dhtServer", "-pubsub", "-dhtNamespace=seen"];
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1";
    let daemon = Launch::new()
        .args([
            "-metricsAddr=127.0.0.1:0",
            listen,
            "-persistentConnMaxMsgSize=65536",
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
    let gone = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
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
    std::mem::forget(daemon.persistent());
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
    // A frame above the limit, and one that is no request.
    for bytes in [vec![0; 100_000], vec![0xff; 10]] {
        let mut client = daemon.client();
        client.send_raw(&raw::frame(&bytes)).expect("send");
        let _ = client.receive::<rp2pd::wire::pb::Response>();
    }
    (daemon, others, handlers)
}

#[test]
fn boards_find_their_series_and_each_series_moves() {
    let (daemon, others, _handlers) = lively();
    // A connection that is never upgraded, and a stream that is never negotiated.
    let _silent = std::net::TcpStream::connect(tcp(&daemon)).expect("connect");
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
    });
    let text = scrape(&daemon);
    let told = samples(&text);
    let mut compared = 0;
    for line in BOARDS.lines() {
        let (board, query) = line.split_once('\t').expect("two cells");
        let is_absent = ABSENT.iter().any(|(part, _)| query.contains(part));
        for (name, wanted) in selectors(query) {
            // AutoNAT's client is on only while it is not known who can be dialed.
            if name.starts_with("libp2p_autonat_re") && !name.ends_with("reachability_status") {
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
    let names: BTreeSet<&str> = told.iter().map(|(name, _, _)| name.as_str()).collect();
    let moved = |name: &str| {
        told.iter()
            .any(|(told, _, value)| told == name && *value != 0.0)
    };
    let still = |name: &str| STILL.iter().any(|(still, _)| *still == name);
    let unmoved: Vec<_> = names
        .iter()
        .filter(|name| !moved(name) && !still(name))
        .collect();
    assert!(unmoved.is_empty(), "nothing moves {unmoved:?}:\n{text}");
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
    let (daemon, others, _handlers) = lively();
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
    let (daemon, others, _handlers) = lively();
    let now = status(&daemon);
    let told = samples(&scrape(&daemon));
    assert_eq!(
        value(&told, "rp2pd_peers", &[]) as u64,
        number(&now, "/peers_connected")
    );
    let opened = value(&told, "libp2p_swarm_connections_opened_total", &[]);
    let closed = value(&told, "libp2p_swarm_connections_closed_total", &[]);
    assert!(opened >= 3.0 && opened - closed == 2.0, "{opened} {closed}");
    let labels = [
        ("dir", "outbound"),
        ("transport", "tcp"),
        ("muxer", "/yamux/1.0.0"),
        ("ip_version", "ip4"),
    ];
    assert!(value(&told, "libp2p_swarm_connections_opened_total", &labels) >= 2.0);
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
    assert_eq!(value(&told, "rp2pd_control_requests_total", &served), 1.0);
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
