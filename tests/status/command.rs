//! `rp2pd status`, `ping` and `probe`, as people and scripts type them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use libp2p::PeerId;

use super::support::{Daemon, PATIENCE, daemon::binary_under_test, eventually};
use super::{LISTEN, full, number, status};

fn run(args: &[&str]) -> Output {
    Command::new(binary_under_test())
        .args(args)
        .output()
        .expect("a program")
}

/// Asks `daemon`; the program must succeed.
fn ask(daemon: &Daemon, args: &[&str]) -> String {
    let listen = format!("-listen={}", daemon.control().multiaddr());
    let output = run(&[&[listen.as_str()], args].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    assert!(error.is_empty(), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The words after `name` at the beginning of a line.
fn fact<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

#[test]
fn a_status_is_complete_aligned_and_without_colours() {
    let (a, b) = (full(), full());
    a.connect_to(&b);
    assert!(eventually(PATIENCE, || number(
        &status(&a),
        "/peers/0/protocols"
    ) > 3));
    let text = ask(&a, &["status"]);
    assert_eq!(
        fact(&text, "version"),
        concat!("rp2pd ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(fact(&text, "peer"), a.peer_id().to_base58());
    assert_eq!(fact(&text, "control"), a.control().multiaddr());
    assert_eq!(fact(&text, "address"), a.addrs()[0].to_string());
    assert_eq!(fact(&text, "reachability"), "unknown");
    assert_eq!(fact(&text, "bootstrap"), "0 of 0 peers");
    assert!(fact(&text, "dht").starts_with("server, "), "{text}");
    for name in ["up", "memory", "traffic", "streams", "clients", "pubsub"] {
        assert!(!fact(&text, name).is_empty());
    }
    let (_, peers) = text.split_once("\nPEERS 1\n").expect("peers");
    let mut rows = peers.lines();
    let head: Vec<&str> = rows.next().expect("a head").split_whitespace().collect();
    let row: Vec<&str> = rows.next().expect("a row").split_whitespace().collect();
    assert_eq!(head.len(), row.len(), "{text}");
    let column = |name: &str| row[head.iter().position(|one| *one == name).expect("a column")];
    assert_eq!(column("PEER"), b.peer_id().to_base58());
    assert_eq!(
        column("AGENT"),
        concat!("rp2pd/", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!((column("DIR"), column("TRANSPORT")), ("outbound", "tcp"));
    for heading in ["\nHANDLERS ", "\nTOPICS 0\n", "\nLIMITS REACHED 0\n"] {
        assert!(text.contains(heading), "{heading}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&ask(&a, &["status", "--json"])).expect("JSON");
    assert_eq!(number(&json, "/peers_connected"), 1);
    // The socket may be named after the word.
    let listen = format!("-listen={}", a.control().multiaddr());
    assert!(run(&["status", &listen]).status.success());
}

#[test]
fn a_peer_is_pinged_and_probed() {
    let (a, b) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    let address = format!("{}/p2p/{}", b.addrs()[0], b.peer_id());
    let text = ask(&a, &["probe", &address]);
    assert!(
        text.contains(&format!("{} is connected after ", b.peer_id())),
        "{text}"
    );
    assert!(
        fact(&text, "connection").starts_with("outbound /ip4/127.0.0.1/tcp/"),
        "{text}"
    );
    assert_eq!(
        fact(&text, "agent"),
        concat!("rp2pd/", env!("CARGO_PKG_VERSION"))
    );
    assert!(text.contains("protocol    /ipfs/ping/1.0.0"), "{text}");
    let again = ask(&a, &["probe", &b.peer_id().to_base58()]);
    assert!(again.contains("is connected already"), "{again}");
    assert!(
        again.contains(&format!("answers as {}", b.peer_id())),
        "{again}"
    );
    let text = ask(&a, &["ping", &b.peer_id().to_base58()]);
    assert_eq!(
        text.lines().filter(|line| line.ends_with(" ms")).count(),
        4,
        "{text}"
    );
}

/// Each address is dialed, those that a CONNECT would leave out too.
#[test]
fn a_probe_tells_what_each_address_answers() {
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1";
    let (a, b, other) = (
        Daemon::spawn(&[LISTEN]),
        Daemon::spawn(&[listen]),
        Daemon::spawn(&[LISTEN]),
    );
    let id = b.peer_id();
    let plain = b.addrs().iter().map(ToString::to_string);
    let mut wanted: Vec<String> = plain.collect();
    wanted.push("/ip4/127.0.0.1/tcp/1".into());
    wanted.push(other.addrs()[0].to_string());
    wanted.push(format!(
        "/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit",
        other.peer_id()
    ));
    let mut words = vec!["probe".to_owned(), id.to_base58()];
    words.extend(wanted.iter().cloned());
    let text = ask(&a, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let line = |address: &str| {
        let found = text
            .lines()
            .find(|line| line.split(' ').next() == Some(address));
        found.unwrap_or_else(|| panic!("no {address}: {text}"))
    };
    assert!(text.starts_with("ADDRESS "), "{text}");
    for (address, answer) in wanted.iter().zip([
        &format!("answers as {id}"),
        &format!("answers as {id}"),
        "connection refused",
        &format!("but remote key matches {}", other.peer_id()),
        "it leads through a relay",
    ]) {
        assert!(line(address).contains(answer), "{answer}: {text}");
        assert!(line(address).contains("ms "), "its time: {text}");
    }
    assert!(
        text.contains(&format!("{id} is connected after ")),
        "{text}"
    );
    // Nobody was told of the dials but by that connection.
    let peers = other.client().list_peers();
    assert!(peers.is_empty(), "{peers:?}");
    // Whoever answers is told.
    let stranger = ask(&a, &["probe", &other.addrs()[0].to_string()]);
    assert!(
        stranger.contains(&format!("answers, and is {}", other.peer_id())),
        "{stranger}"
    );
    assert!(stranger.contains(&format!("{} is connected", other.peer_id())));
}

#[test]
fn what_does_not_work_says_why() {
    let daemon = Daemon::spawn(&[LISTEN]);
    let listen = format!("-listen={}", daemon.control().multiaddr());
    let refused = |args: &[&str]| {
        let output = run(&[&[listen.as_str()], args].concat());
        assert!(!output.status.success(), "{args:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().last().unwrap_or_default().to_owned()
    };
    let dead = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", PeerId::random());
    let text = refused(&["ping", "/ip4/127.0.0.1/tcp/1"]);
    assert!(
        text.contains("not an address that ends in /p2p/PEER"),
        "{text}"
    );
    assert!(refused(&["probe", "/ip4/127.0.0.1/tcp/1"]).contains("nobody answers"));
    assert!(refused(&["probe", "127.0.0.1:1"]).contains("not a peer id"));
    let two = [PeerId::random().to_base58(), PeerId::random().to_base58()];
    assert!(refused(&["probe", &two[0], &two[1]]).contains("of one peer"));
    // The reasons stand below one another.
    let output = run(&[&listen, "ping", &dead]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut lines = text.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.ends_with("all dials failed")),
        "{text}"
    );
    let line = lines.next().unwrap_or_default();
    assert!(
        line.starts_with("    * [/ip4/127.0.0.1/tcp/1] dial tcp4 "),
        "{text}"
    );
    assert!(lines.next().is_none() && !text.contains("\\u"), "{text}");
    assert!(refused(&["ping", &dead]).contains("connection refused"));
    assert!(refused(&["probe", &dead]).contains("connection refused"));
    assert!(refused(&["ping"]).contains("name a peer"));
    assert!(refused(&["status", "all"]).contains("does not take"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("none.sock");
    let nobody = run(&["status", &format!("-listen=/unix{}", path.display())]);
    let text = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(
        text.contains("no answer from") && text.contains("is the daemon running"),
        "{text}"
    );
}

#[test]
fn a_daemon_that_does_not_know_the_request_is_told_apart() {
    // As Go's daemon does: it closes. As an older one of rp2pd: an ERROR.
    let text = b"Unexpected request; unknown type 100";
    let mut error = vec![0x08, 1, 0x12, text.len() as u8 + 2, 0x0a, text.len() as u8];
    error.extend_from_slice(text);
    error.insert(0, error.len() as u8);
    for answer in [Vec::new(), error] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("old.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let old = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut request = [0; 64];
            let count = client.read(&mut request).expect("a request");
            client.write_all(&answer).expect("an answer");
            request[..count].to_vec()
        });
        let output = run(&["status", &format!("-listen=/unix{}", path.display())]);
        assert_eq!(old.join().expect("a thread"), [2, 8, 100]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(text.contains("does not know this request"), "{text}");
    }
}
