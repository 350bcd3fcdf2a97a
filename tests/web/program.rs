//! `rp2pd call`.

use std::process::{Command, Stdio};

use super::*;

fn run(daemon: &Daemon, words: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .arg(format!("-listen={}", daemon.control().multiaddr()))
        .arg("call")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("the program");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

#[test]
fn a_shell_asks_and_reads_json() {
    let (daemon, other) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    let (text, _, code) = run(&daemon, &["identify"]);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, Some(0));
    assert_eq!(answer["identify"]["id"], daemon.peer_id().to_string());
    let peer = format!("peer={}", other.peer_id());
    let addr = format!("addrs={}", other.addrs()[0]);
    let (text, error, code) = run(&daemon, &["connect", &peer, &addr]);
    assert_eq!(
        (text.as_str(), code),
        ("{\"type\":\"OK\"}\n", Some(0)),
        "{error}"
    );
    let (text, ..) = run(
        &daemon,
        &[
            "control",
            r#"{"type":"PEERSTORE","query":{"connected":true}}"#,
        ],
    );
    assert!(text.contains(&other.peer_id().to_string()), "{text}");
    let (again, ..) = run(
        &daemon,
        &["control", "type=peerstore", "query.connected=true"],
    );
    assert!(again.contains(&other.peer_id().to_string()), "{again}");
}

#[test]
fn exit_codes_say_what_was_wrong() {
    let daemon = Daemon::spawn(&[LISTEN]);
    let (text, _, code) = run(&daemon, &["dht", "type=FIND_PEER"]);
    let error = "{\"type\":\"ERROR\",\"error\":{\"msg\":\"DHT not enabled\"}}\n";
    assert_eq!((text.as_str(), code), (error, Some(1)));
    for (words, reason) in [
        (&[][..], "name a request"),
        (&["nothing"], "unknown request"),
        (&["connect", "peer"], "not field=value"),
        (&["connect", "peer=x"], "\"peer\" has to be a peer id"),
        (&["identify", "{}"], "the request has no parameters"),
        (&["stream-open"], "becomes a stream"),
    ] {
        let (text, error, code) = run(&daemon, words);
        assert_eq!((text.as_str(), code), ("", Some(2)), "{words:?}: {error}");
        assert!(error.contains(reason), "{words:?}: {error}");
    }
    let control = daemon.control().multiaddr();
    drop(daemon);
    let output = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .args([&format!("-listen={control}"), "call", "identify"])
        .output()
        .expect("the program");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_goes_on_is_one_document_a_line() {
    let (daemon, other) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    let mut child = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .arg(format!("-listen={}", daemon.control().multiaddr()))
        .args(["call", "events", "kinds=PEER_CONNECTED"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next()["type"], "OK");
    daemon.connect_to(&other);
    assert_eq!(next()["event"]["peer"], other.peer_id().to_string());
    drop(daemon);
    assert_eq!(child.wait().expect("an end").code(), Some(3));
}
