//! What operators see.

use std::io::{Read as _, Write as _};

use super::support::metrics::scrape;
use super::*;

#[test]
fn tunnels_are_told_to_operators() {
    let (near, far) = (Daemon::spawn(&[LISTEN, "-metricsAddr=127.0.0.1:0"]), node());
    near.connect_to(&far);
    let target = service::echo();
    let at = carried(&near, &far, target);
    let mut socket = dial(at);
    socket.write_all(b"hello").expect("sent");
    socket.read_exact(&mut [0; 5]).expect("came back");
    let document = |daemon: &Daemon| -> serde_json::Value {
        let answer = daemon
            .client()
            .ask(&typed(request::Type::Status))
            .expect("STATUS");
        serde_json::from_slice(&answer.status.expect("a document")).expect("JSON")
    };
    // A document may be a quarter of a second old.
    assert!(eventually(
        PATIENCE,
        || document(&near)["tunnels"][0]["received"] == 5
    ));
    let told = &document(&near)["tunnels"][0];
    assert_eq!(told["kind"], "forward");
    assert_eq!(told["protocol"], NAME);
    assert_eq!(told["address"], format!("/ip4/127.0.0.1/tcp/{}", at.port()));
    assert_eq!(told["peer"], far.peer_id().to_string());
    assert_eq!(
        (&told["open"], &told["connections"], &told["failed"]),
        (&1.into(), &1.into(), &0.into())
    );
    let told = &document(&far)["tunnels"][0];
    assert_eq!(
        (&told["kind"], &told["allowed"]),
        (&"expose".into(), &serde_json::Value::Null)
    );
    let report = near.report();
    let line = "Tunnels: 1, connections: 1, connections so far: 1, failed: 0, bytes received: 5, bytes sent: 5";
    assert!(report.contains(line), "{report}");
    let metrics = scrape(&near);
    for line in [
        "rp2pd_tunnel_count{kind=\"forward\"} 1",
        "rp2pd_tunnel_count{kind=\"expose\"} 0",
        "rp2pd_tunnel_open_connections 1",
        "rp2pd_tunnel_connections_total{event=\"opened\"} 1",
        "rp2pd_tunnel_connections_total{event=\"failed\"} 0",
        "rp2pd_tunnel_bytes_total{direction=\"received\"} 5",
        "rp2pd_tunnel_bytes_total{direction=\"sent\"} 5",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
}
