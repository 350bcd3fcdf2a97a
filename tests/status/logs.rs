//! At level info a person can follow the daemon's life.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use super::LISTEN;
use super::support::{Daemon, Launch, PATIENCE, eventually};

#[test]
fn a_life_can_be_followed_at_info() {
    let other = Daemon::spawn(&[LISTEN]);
    let peer = format!(
        "-bootstrapPeers={}/p2p/{}",
        other.addrs()[0],
        other.peer_id()
    );
    let mut daemon = Launch::new()
        .env("GOLOG_LOG_LEVEL", "info")
        .args([LISTEN, "-b", &peer])
        .spawn();
    let has = |text: &str, words: &[&str]| {
        text.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    let told = |words: &[&str]| has(&daemon.stderr(), words);
    let id = daemon.peer_id().to_base58();
    let other_id = other.peer_id().to_base58();
    // Who comes and goes is told every ten seconds at most.
    let soon = Duration::from_secs(30);
    for (within, words) in [
        (
            PATIENCE,
            &[
                "started",
                env!("CARGO_PKG_VERSION"),
                &id,
                "/ip4/127.0.0.1/tcp/",
            ][..],
        ),
        (PATIENCE, &["ready", "\"bootstrap\":1", "\"of\":1"]),
        (soon, &["\tpeers\t", "\"peers\":1", "\"came\":1", &other_id]),
        (soon, &["\tclients\t", "\"came\":"]),
    ] {
        assert!(
            eventually(within, || told(words)),
            "{words:?}: {}",
            daemon.stderr()
        );
    }
    drop(other);
    for words in [
        &["\tpeers\t", "\"peers\":0", "\"left\":1", &other_id][..],
        &["bootstrap peers", "\"connected\":0", "\"of\":1"],
    ] {
        assert!(eventually(soon, || told(words)), "{}", daemon.stderr());
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(PATIENCE).is_some());
    let text = daemon.stderr();
    assert!(has(&text, &["\tstopping\t", "SIGTERM"]), "{text}");
    assert!(has(&text, &["\tstopped"]), "{text}");
    // No library talks of its insides.
    for line in text.lines() {
        let logger = line.split('\t').nth(2);
        assert!(
            matches!(
                logger,
                Some("p2pd" | "dht" | "pubsub" | "autonat" | "nat" | "canonical-log")
            ),
            "{line}"
        );
    }
}

/// As the libp2p project documents it.
const FAILREGEX: &str = r"^.*[\t\s]CANONICAL_PEER_STATUS: .* addr=\/ip[46]\/<HOST>[^\s]*";

/// The host, if [`FAILREGEX`] matches the line.
fn banned(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("CANONICAL_PEER_STATUS: ")?;
    before.ends_with(char::is_whitespace).then_some(())?;
    let (_, address) = rest.rsplit_once(" addr=/ip4/")?;
    address.split('/').next()
}

/// A stranger that fails its handshakes by the thousand.
#[test]
fn handshakes_that_fail_are_told_to_fail2ban_and_fill_no_disk() {
    let daemon = Launch::new()
        .env("GOLOG_LOG_LEVEL", "canonical-log=info")
        .args([LISTEN])
        .spawn();
    let address = daemon.addrs()[0].to_string();
    let port = address.rsplit('/').next().expect("a port");
    // Noise is agreed on, and then comes something else.
    let broken =
        b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x20not a message of noise, but 32 bytes";
    let banned_lines = || {
        let text = daemon.stderr();
        text.lines()
            .filter_map(|line| Some((banned(line)?.to_owned(), line.to_owned())))
            .collect::<Vec<_>>()
    };
    let filter = include_str!("../../packaging/fail2ban/filter.conf");
    assert!(filter.contains(FAILREGEX));
    let told = eventually(2 * PATIENCE, || {
        for _ in 0..50 {
            let socket = TcpStream::connect(format!("127.0.0.1:{port}"));
            let mut socket = socket.expect("connect");
            let _ = socket.write_all(broken);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = socket.read_to_end(&mut Vec::new());
        }
        banned_lines()
            .iter()
            .any(|(_, line)| line.contains("handshake_failure=\"noise\" err=\""))
    });
    assert!(told, "{}", daemon.stderr());
    for (host, line) in banned_lines() {
        assert_eq!(host, "127.0.0.1", "{line}");
        assert!(line.contains("\tINFO\tcanonical-log\t"), "{line}");
        assert!(line.contains(" sample_rate=100 "), "{line}");
    }
}

#[test]
fn a_peer_that_breaks_the_rules_is_named() {
    let daemon = Launch::new()
        .env("GOLOG_LOG_LEVEL", "warn")
        .args([LISTEN, "-dhtServer"])
        .spawn();
    let peer = Daemon::spawn(&[LISTEN]);
    peer.connect_to(&daemon);
    let opened = peer
        .client()
        .open_stream(daemon.peer_id(), &["/ipfs/kad/1.0.0"]);
    let (_, mut pipe) = opened.expect("a stream");
    pipe.write_all(&[3, 0xff, 0xff, 0xff]).expect("send");
    let words = format!(
        "CANONICAL_MISBEHAVING_PEER: peer={} addr=/ip4/127.0.0.1/tcp/",
        peer.peer_id()
    );
    let told = || {
        let text = daemon.stderr();
        text.lines().any(|line| {
            line.contains(&words) && line.contains(" component=dht err=\"malformed message")
        })
    };
    assert!(eventually(PATIENCE, told), "{}", daemon.stderr());
}
