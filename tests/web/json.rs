//! Requests as JSON.

use std::io::{Read as _, Write as _};

use super::support::Handler;
use super::*;

#[test]
fn requests_are_answered_in_json() {
    let (web, other) = (Web::new(&["-pubsub", "-dht"]), Daemon::spawn(&[LISTEN]));
    let id = web.daemon.peer_id().to_string();
    let answer = web.call("identify", "");
    assert_eq!(answer["identify"]["id"], id);
    assert_eq!(
        answer["identify"]["addrs"][0],
        web.daemon.addrs()[0].to_string()
    );
    let (peer, addr) = (other.peer_id().to_string(), other.addrs()[0].to_string());
    let connect = format!(r#"{{"peer":"{peer}","addrs":["{addr}"]}}"#);
    assert_eq!(web.call("connect", &connect)["type"], "OK");
    let peers = web.call("list-peers", "");
    assert_eq!(peers["peers"][0]["id"], peer);
    let status = web.call("status", "");
    assert_eq!(status["status"]["peer_id"], id);
    let known = format!(r#"{{"type":"PEERSTORE","query":{{"peer":"{peer}"}}}}"#);
    let known = web.call("control", &known);
    assert_eq!(known["control"]["peers"][0]["addrs"][0]["addr"], addr);
    // A handler that is registered so gets streams.
    let handler = Handler::unix();
    let addr = format!("/unix{}", web.daemon.dir().join("h.sock").display());
    let listener =
        std::os::unix::net::UnixListener::bind(web.daemon.dir().join("h.sock")).expect("bound");
    drop(handler);
    web.call(
        "stream-handler",
        &format!(r#"{{"addr":"{addr}","proto":["/a/1"]}}"#),
    );
    let (info, _pipe) = other
        .client()
        .open_stream(web.daemon.peer_id(), &["/a/1"])
        .expect("a stream");
    assert_eq!(info.proto, "/a/1");
    assert!(listener.accept().is_ok());
    // A tunnel has to be kept: the connection of the request ends with its answer.
    let tunnel = format!(
        r#"{{"type":"FORWARD","proto":"/x/a","peer":"{peer}","listen":"/ip4/127.0.0.1/tcp/0","keep":true}}"#
    );
    let made = web.call("tunnel", &tunnel);
    let listed = web.call("tunnel", r#"{"type":"LIST"}"#);
    assert_eq!(
        listed["tunnel"]["tunnels"][0]["addr"],
        made["tunnel"]["tunnels"][0]["addr"]
    );
}

#[test]
fn errors_are_answers_too() {
    let web = Web::new(&[]);
    let refused = |verb: &str, body: &str| {
        let (status, _, text) = web.post(verb, body, "");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, &answer["type"]), (400, &"ERROR".into()), "{text}");
        answer["error"]["msg"].as_str().expect("text").to_owned()
    };
    assert_eq!(
        refused("connect", ""),
        "Malformed request; missing parameters"
    );
    assert_eq!(refused("dht", r#"{"type":"FIND_PEER"}"#), "DHT not enabled");
    assert_eq!(refused("nothing", ""), "unknown request");
    assert_eq!(refused("stream-open", ""), "this request needs a WebSocket");
    let text = refused("connect", r#"{"peer":"x"}"#);
    assert!(text.starts_with("\"peer\" has to be a peer id"), "{text}");
    let (status, ..) = web.raw(&web.request("identify", "", "").replacen("POST", "GET", 1));
    assert_eq!(status, 405);
    let (status, ..) = web.raw(&web.request("identify", "", "").replacen("/v1/", "/", 1));
    assert_eq!(status, 404);
}

#[test]
fn what_goes_on_comes_line_by_line() {
    let (web, other) = (
        Web::new(&["-pubsub", "-dht"]),
        Daemon::spawn(&[LISTEN, "-dhtServer"]),
    );
    let mut events = web.lines("events", r#"{"kinds":["PEER_CONNECTED","TOPIC_JOINED"]}"#);
    assert_eq!(events.next().expect("an answer")["type"], "OK");
    other.connect_to(&web.daemon);
    let event = events.next().expect("an event");
    assert_eq!(event["event"]["kind"], "PEER_CONNECTED");
    assert_eq!(event["event"]["peer"], other.peer_id().to_string());
    let mut messages = web.lines("pubsub", r#"{"type":"SUBSCRIBE","topic":"t"}"#);
    assert_eq!(messages.next().expect("an answer")["type"], "OK");
    let event = events.next().expect("an event");
    assert_eq!(
        (&event["event"]["kind"], &event["event"]["topic"]),
        (&"TOPIC_JOINED".into(), &"t".into())
    );
    let publish = r#"{"type":"PUBLISH","topic":"t","data":{"text":"hello"}}"#;
    web.call("pubsub", publish);
    let message = messages.next().expect("a message");
    assert_eq!(
        (&message["data"], &message["topicIDs"][0]),
        (&"aGVsbG8=".into(), &"t".into())
    );
    drop(messages);
    assert!(eventually(PATIENCE, || {
        web.call("pubsub", r#"{"type":"GET_TOPICS"}"#)["pubsub"]["topics"].is_null()
    }));
    // Results of the DHT have an end.
    let key = other.peer_id().to_string();
    let wanted =
        format!(r#"{{"type":"GET_CLOSEST_PEERS","key":{{"base64":"AQID"}},"peer":"{key}"}}"#);
    // The table is empty at first.
    let found = || web.post("dht", &wanted, "").0 == 200;
    assert!(eventually(PATIENCE, found));
    let mut results = web.lines("dht", &wanted);
    assert_eq!(results.next().expect("an answer")["dht"]["type"], "BEGIN");
    let mut last = Value::Null;
    while let Some(line) = results.next() {
        last = line;
    }
    assert_eq!(last["type"], "END");
}

#[test]
fn a_reader_that_goes_ends_its_session() {
    let web = Web::new(&[]);
    let sessions = || web.call("status", "")["status"]["clients"]["subscriptions"].as_u64();
    let mut events = web.lines("events", "");
    assert_eq!(events.next().expect("an answer")["type"], "OK");
    assert!(eventually(PATIENCE, || sessions() == Some(1)));
    drop(events);
    assert!(eventually(PATIENCE, || sessions() == Some(0)));
    // So does a request that nobody waits for.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("an address");
    let peer = libp2p::PeerId::random();
    let body = format!(
        r#"{{"peer":"{peer}","addrs":["/ip4/{}/tcp/{}"]}}"#,
        addr.ip(),
        addr.port()
    );
    let mut socket = web.dial();
    socket
        .write_all(web.request("connect", &body, "").as_bytes())
        .expect("sent");
    let (mut dialed, _) = silent.accept().expect("a dial");
    dialed.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    drop(socket);
    let mut said = Vec::new();
    let _ = dialed.read_to_end(&mut said);
    drop(dialed);
}
