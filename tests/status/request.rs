//! STATUS on the control socket.

use std::io::Write as _;

use rp2pd::wire::pb::{PsRequest, Request, StreamHandlerRequest, ps_request, request, response};
use serde_json::Value;

use super::support::{ControlClient, Daemon, Handler, PATIENCE, control::typed, eventually, raw};
use super::{LISTEN, at, full, number, status, text};

const PROTOCOL: &str = "/seen/1.0.0";

/// Sends STATUS and reads the document.
pub fn ask(client: &mut ControlClient) -> Value {
    let answer = client.request(&typed(request::Type::Status));
    let answer = answer.expect("an answer");
    assert_eq!(answer.r#type(), response::Type::Ok);
    let document = answer.status.expect("a document");
    serde_json::from_slice(&document).expect("JSON")
}

#[test]
fn a_daemon_tells_what_it_is() {
    let daemon = full();
    let now = status(&daemon);
    assert_eq!(text(&now, "/version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(number(&now, "/pid"), u64::from(daemon.pid()));
    assert_eq!(text(&now, "/peer_id"), daemon.peer_id().to_base58());
    assert_eq!(text(&now, "/control"), daemon.control().multiaddr());
    let told: Vec<String> = daemon.addrs().iter().map(ToString::to_string).collect();
    assert_eq!(*at(&now, "/addresses"), serde_json::json!(told));
    assert_eq!(text(&now, "/reachability"), "unknown");
    assert_eq!(text(&now, "/dht/mode"), "server");
    assert_eq!(number(&now, "/peers_connected"), 0);
    assert!(number(&now, "/memory/limit") > 0);
    assert!(eventually(PATIENCE, || number(
        &status(&daemon),
        "/memory/used"
    ) > 0));
    let forced = Daemon::spawn(&["-forceReachabilityPrivate"]);
    assert_eq!(text(&status(&forced), "/reachability"), "private");
    assert!(at(&status(&forced), "/dht").is_null());
}

#[test]
fn a_connection_tells_both_ends_the_same() {
    let (a, b) = (full(), full());
    a.connect_to(&b);
    let handler = Handler::unix();
    let registered = handler.register(&mut b.client(), &[PROTOCOL], None);
    registered.expect("a handler");
    let known = |daemon: &Daemon| number(&status(daemon), "/peers_connected") == 1;
    assert!(eventually(PATIENCE, || known(&a) && known(&b)));
    let protocols = || number(&status(&a), "/peers/0/protocols") > 3;
    assert!(eventually(PATIENCE, protocols));
    let (from, to) = (status(&a), status(&b));
    for (document, other, direction) in [(&from, &b, "outbound"), (&to, &a, "inbound")] {
        assert_eq!(text(document, "/peers/0/id"), other.peer_id().to_base58());
        let agent = concat!("rp2pd/", env!("CARGO_PKG_VERSION"));
        assert_eq!(text(document, "/peers/0/agent"), agent);
        let connection = "/peers/0/connections/0";
        let of = |name: &str| text(document, &format!("{connection}/{name}"));
        assert_eq!(of("direction"), direction);
        assert_eq!(of("transport"), "tcp");
        assert_eq!(of("muxer"), "/yamux/1.0.0");
        assert!(["/noise", "/tls/1.0.0"].contains(&of("security")));
        assert!(of("address").starts_with("/ip4/127.0.0.1/tcp/"));
        assert!(number(document, &format!("{connection}/age")) < 60);
    }
    assert_eq!(
        text(&from, "/peers/0/connections/0/security"),
        text(&to, "/peers/0/connections/0/security")
    );
    // The first ping takes its time.
    let measured = || at(&status(&a), "/peers/0/round_trip_micros").is_u64();
    assert!(eventually(PATIENCE, measured), "{:#}", status(&a));
    assert!(number(&status(&a), "/dht/peers") == 1);
    assert_eq!(number(&status(&a), "/pubsub/peers"), 1);
}

#[test]
fn quic_and_websocket_connections_are_told_apart() {
    for (listen, transport) in [
        ("-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1", "quic-v1"),
        ("-hostAddrs=/ip4/127.0.0.1/tcp/0/ws", "ws"),
    ] {
        let (a, b) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[listen]));
        a.connect_to(&b);
        let now = status(&a);
        let of = |name: &str| text(&now, &format!("/peers/0/connections/0/{name}"));
        assert_eq!(of("transport"), transport);
        assert_eq!(of("muxer").is_empty(), transport == "quic-v1");
        assert_eq!(of("security").is_empty(), transport == "quic-v1");
    }
}

#[test]
fn payload_is_counted_on_both_sides_and_stays_counted() {
    const BYTES: usize = 1 << 20;
    let (a, b) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    a.connect_to(&b);
    let before = status(&a);
    let (_, mut pipe) = a
        .client()
        .open_stream(b.peer_id(), &["/echo/1.0.0"])
        .expect("a stream");
    pipe.write_all(b"x").expect("send");
    let open = || number(&status(&a), "/clients/streams") == 1;
    assert!(eventually(PATIENCE, open), "the client is a stream now");
    assert_eq!(pipe.echo(&vec![7; BYTES]).len(), BYTES);
    let grown = |daemon: &Daemon, name: &str| number(&status(daemon), name);
    for name in ["/traffic/received", "/traffic/sent"] {
        for daemon in [&a, &b] {
            let counted = || (BYTES as u64..2 * BYTES as u64).contains(&grown(daemon, name));
            assert!(eventually(PATIENCE, counted), "{:#}", status(daemon));
        }
    }
    let sent = number(&status(&a), "/peers/0/connections/0/sent");
    assert!(sent >= BYTES as u64 && sent <= grown(&a, "/traffic/sent"));
    assert!(sent > number(&before, "/traffic/sent"));
    a.client().disconnect(b.peer_id());
    assert!(eventually(PATIENCE, || number(
        &status(&a),
        "/peers_connected"
    ) == 0));
    assert!(
        grown(&a, "/traffic/sent") >= sent,
        "what is gone stays counted"
    );
    let closed = || number(&status(&a), "/clients/streams") == 0;
    assert!(eventually(PATIENCE, closed));
}

#[test]
fn clients_handlers_and_topics_are_listed() {
    let daemon = full();
    let mut client = daemon.client();
    let socket = Handler::unix();
    let names = [PROTOCOL, "without-slash"];
    let registered = socket.register(&mut client, &names, None);
    registered.expect("a handler");
    let handler = |name: &str| {
        let now = status(&daemon);
        let all = at(&now, "/handlers").as_array().expect("a list").clone();
        let found = all.into_iter().find(|one| one["protocol"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {now:#}"))
    };
    for name in [PROTOCOL, "without-slash"] {
        assert_eq!(handler(name)["streams"], 1);
        assert_eq!(handler(name)["builtin"], false);
    }
    for name in ["/echo/1.0.0", "/ipfs/kad/1.0.0", "/meshsub/1.1.0"] {
        assert_eq!(handler(name)["builtin"], true, "{name}");
    }
    let mut subscriber = daemon.client();
    let subscribe = Request {
        pubsub: Some(PsRequest {
            r#type: Some(i32::from(ps_request::Type::Subscribe).into()),
            topic: Some("news".into()),
            ..PsRequest::default()
        }),
        ..typed(request::Type::Pubsub)
    };
    subscriber.ask(&subscribe).expect("a subscription");
    let persistent = daemon.persistent();
    let counts = || {
        let now = status(&daemon);
        let of = |name: &str| number(&now, &format!("/clients/{name}"));
        (of("requests"), of("subscriptions"), of("persistent"))
    };
    // The one that asks is one of them.
    assert!(
        eventually(PATIENCE, || counts() == (2, 1, 1)),
        "{:?}",
        counts()
    );
    let now = status(&daemon);
    assert_eq!(text(&now, "/pubsub/topics/0/topic"), "news");
    assert_eq!(number(&now, "/pubsub/topics/0/subscribers"), 1);
    drop(persistent);
}

#[test]
fn a_limit_that_bites_is_listed() {
    let daemon = Daemon::spawn(&["-persistentConnMaxMsgSize=1024"]);
    assert!(
        at(&status(&daemon), "/limits")
            .as_array()
            .expect("a list")
            .is_empty()
    );
    let mut client = daemon.client();
    client.send_raw(&raw::frame(&[0; 4096])).expect("send");
    let bitten = || {
        let now = status(&daemon);
        let limits = at(&now, "/limits").as_array().expect("a list").clone();
        limits
            .iter()
            .any(|one| one["name"] == "frame_size" && one["count"] == 1)
    };
    assert!(eventually(PATIENCE, bitten), "{:#}", status(&daemon));
}

#[test]
fn bad_parameters_do_not_matter_to_a_request_without_any() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let request = Request {
        stream_handler: Some(StreamHandlerRequest::default()),
        ..typed(request::Type::Status)
    };
    let answer = client.request(&request).expect("an answer");
    assert!(answer.status.is_some());
    let _ = client.identify();
}
