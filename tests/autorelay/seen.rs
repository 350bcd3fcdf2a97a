//! What operators see: STATUS, `rp2pd status`, the report, metrics, the log.

use std::process::Command;

use serde_json::Value;

use super::*;
use crate::support::control::typed;
use rp2pd::wire::pb::request;

/// The document.
pub fn status(daemon: &Daemon) -> Value {
    let answer = daemon
        .client()
        .ask(&typed(request::Type::Status))
        .expect("STATUS");
    serde_json::from_slice(&answer.status.expect("a document")).expect("JSON")
}

#[test]
fn places_are_told_to_operators() {
    let relay = own(Launch::new())
        .args([
            LISTEN,
            "-forceReachabilityPublic",
            "-relayDataLimit=1000000",
        ])
        .spawn();
    let trusted = named(&relay, &relay.addrs()[0].to_string());
    let node = Launch::new()
        .args([
            LISTEN,
            "-dhtClient",
            "-autoRelay",
            "-forceReachabilityPrivate",
        ])
        .args(["-metricsAddr=127.0.0.1:0"])
        .args([format!("-trustedRelays={trusted}")])
        .env("GOLOG_LOG_LEVEL", "info")
        .spawn();
    let document = status(&node);
    let now = &document["autorelay"];
    assert_eq!(now["state"], "gather", "one of two: {document:#}");
    let place = &now["reservations"][0];
    assert_eq!(place["relay"], relay.peer_id().to_base58());
    assert_eq!(place["trusted"], true);
    assert_eq!(place["data_limit"], 1_000_000);
    assert_eq!(place["time_limit"], 1800);
    assert_eq!(place["addresses"][0], format!("{trusted}/p2p-circuit"));
    assert_eq!((&now["gained"], &now["lost"]), (&1.into(), &0.into()));
    let listen = format!("-listen={}", node.control().multiaddr());
    let output = Command::new(binary_under_test())
        .args([&listen, "status"])
        .output()
        .expect("rp2pd status");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = "autorelay    gather, 1 of 2 places at relays, 0 candidates; gained 1, lost 0";
    assert!(text.contains(line), "{text}");
    let (_, table) = text.split_once("\nRELAYS 1\n").expect("a table");
    let row: Vec<_> = table
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row[0], relay.peer_id().to_base58());
    assert_eq!((row[1], row[3], row[4]), ("yes", "976.6KiB", "30m0s"));
    let report = node.report();
    let line = "Autorelay: gather, places at relays: 1, candidates: 0, gained: 1, lost: 0";
    assert!(report.contains(line), "{report}");
    let log = eventually(PATIENCE, || node.stderr().contains("relay gained"));
    assert!(log, "{}", node.stderr());
    let metrics = scrape(&node);
    for line in [
        "libp2p_autorelay_status 1",
        "libp2p_autorelay_desired_reservations 2",
        "libp2p_autorelay_relay_addresses_count 1",
        "libp2p_autorelay_reservations_opened_total 1",
        "libp2p_autorelay_reservations_closed_total 0",
        "libp2p_autorelay_relay_addresses_updated_total 1",
        "libp2p_autorelay_reservation_requests_outcome_total{request_type=\"new\",outcome=\"success\"} 1",
        "libp2p_autorelay_reservation_requests_outcome_total{request_type=\"refresh\",outcome=\"success\"} 0",
        "libp2p_autorelay_candidates_total{type=\"added\"} 0",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
    drop(relay);
    let lost = eventually(PATIENCE, || status(&node)["autorelay"]["lost"] == 1);
    assert!(lost, "{:#}", status(&node));
    assert!(scrape(&node).contains("libp2p_autorelay_reservations_closed_total 1\n"));
}

fn scrape(daemon: &Daemon) -> String {
    use std::io::{Read as _, Write as _};
    let at = || {
        let said = daemon.stderr();
        let (_, rest) = said.split_once("status page: http://")?;
        rest.split_once('/').map(|(at, _)| at.to_owned())
    };
    assert!(
        eventually(PATIENCE, || at().is_some()),
        "{}",
        daemon.stderr()
    );
    let at = at().expect("an address");
    let mut socket = std::net::TcpStream::connect(&at).expect("connect");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("send");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    text
}

/// Without autorelay nothing of it is there.
#[test]
fn nothing_is_told_without_autorelay() {
    let daemon = Daemon::spawn(&[LISTEN, "-dht"]);
    assert!(status(&daemon)["autorelay"].is_null());
    assert!(!daemon.report().contains("Autorelay"));
}
