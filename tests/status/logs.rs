//! At level info a person can follow the daemon's life.

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
    let told = |words: &[&str]| {
        daemon
            .stderr()
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    let id = daemon.peer_id().to_base58();
    assert!(eventually(PATIENCE, || told(&[
        "started",
        env!("CARGO_PKG_VERSION"),
        &id,
        "/ip4/127.0.0.1/tcp/"
    ])));
    assert!(
        eventually(PATIENCE, || told(&["ready", "\"bootstrap\":1", "\"of\":1"])),
        "{}",
        daemon.stderr()
    );
    assert!(
        eventually(Duration::from_secs(30), || told(&[
            "connected",
            "\"peers\":1"
        ])),
        "{}",
        daemon.stderr()
    );
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(PATIENCE).is_some());
    let text = daemon.stderr();
    assert!(
        text.lines()
            .any(|line| line.contains("stopping") && line.contains("signal")),
        "{text}"
    );
}
