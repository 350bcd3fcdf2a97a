//! The address of `-metricsAddr`: what it answers, to whom, and what it costs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::support::metrics::{address, exchange, get};
use super::support::{Daemon, Launch, PATIENCE, eventually};
use super::{LISTEN, at, number};

/// A daemon with a metrics address on a port of 127.0.0.1.
pub fn shown(args: &[&str]) -> Daemon {
    Launch::new()
        .args(["-metricsAddr=127.0.0.1:0", LISTEN])
        .args(args)
        .spawn()
}

#[test]
fn each_path_answers_and_nothing_else_does() {
    let daemon = shown(&[]);
    let address = address(&daemon);
    for (path, kind, start) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/status.json", "application/json", "{"),
        ("/metrics", "application/openmetrics-text", "# HELP"),
        ("/livez", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ok\n"),
    ] {
        let (head, body) = get(address, path);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(body.starts_with(start), "{path}: {body}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(
            head.contains("content-security-policy: default-src 'none'"),
            "{head}"
        );
        assert!(!head.contains("access-control-allow-origin"), "{head}");
    }
    for path in [
        "/debug/pprof/",
        "/debug/vars",
        "/status",
        "/../etc/passwd",
        "/page.html",
    ] {
        assert!(get(address, path).0.starts_with("HTTP/1.1 404 "), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request =
            format!("{method} /metrics HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
        assert!(
            exchange(address, &request).starts_with("HTTP/1.1 405 "),
            "{method}"
        );
    }
    let document: serde_json::Value =
        serde_json::from_str(&get(address, "/status.json").1).expect("JSON");
    assert_eq!(number(&document, "/pid"), u64::from(daemon.pid()));
    assert!(at(&document, "/traffic/received_history").is_array());
}

#[test]
fn names_that_lead_here_by_a_strangers_hand_are_refused() {
    let daemon = shown(&[]);
    let address = address(&daemon);
    let asked = |host: &str| exchange(address, &format!("GET /status.json HTTP/1.1\r\n{host}\r\n"));
    let port = address.port();
    for host in [
        "Host: 127.0.0.1\r\n",
        &format!("Host: localhost:{port}\r\n"),
        &format!("Host: [::1]:{port}\r\n"),
    ] {
        assert!(asked(host).starts_with("HTTP/1.1 200 "), "{host}");
    }
    for host in [
        "",
        "Host: evil.example\r\n",
        "Host: daemon\r\n",
        "Host: localhost.evil.example\r\n",
        "Host: 127.0.0.1.evil.example:80\r\n",
    ] {
        let answer = asked(host);
        assert!(
            answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "),
            "{host}: {answer}"
        );
        assert!(!answer.contains("peer_id"), "{host}");
    }
}

#[test]
fn without_a_host_it_listens_on_loopback_alone() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let port = free.expect("a port").port();
    let daemon = Launch::new()
        .args([format!("-metricsAddr=:{port}"), LISTEN.to_owned()])
        .spawn();
    let address = address(&daemon);
    assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(get(address, "/livez").0.contains("200"));
    // As in Go: a port in use is a line, and the daemon goes on.
    let second = Launch::new()
        .args([format!("-metricsAddr=127.0.0.1:{port}"), LISTEN.to_owned()])
        .spawn();
    let told = || second.stderr().contains("address already in use");
    assert!(eventually(PATIENCE, told), "{}", second.stderr());
    let wrong = Daemon::spawn(&["-metricsAddr=8888"]);
    let told = || wrong.stderr().contains("not host:port");
    assert!(eventually(PATIENCE, told), "{}", wrong.stderr());
}

#[test]
fn slow_readers_and_writers_keep_nobody_out_and_are_bounded() {
    let mut daemon = shown(&[]);
    let address = address(&daemon);
    let before = daemon.fds();
    let mut slow: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
        // Half of them never end their request, half never read the answer.
        let sent = match number % 2 {
            0 => socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: "),
            _ => socket.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        };
        let _ = sent;
        slow.push(socket);
    }
    let begun = Instant::now();
    assert!(get(address, "/livez").0.contains("200"));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let given_way = daemon.bites("connections to the metrics address");
    assert!(given_way >= 50, "the fault did not happen: {given_way}");
    assert!(
        eventually(PATIENCE, || daemon.fds() <= before + 40),
        "{} {before}",
        daemon.fds()
    );
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "x".repeat(100_000)
    );
    assert!(!exchange(address, &long).contains("200 OK"));
    // They do not hold up the end either.
    let status = daemon.terminate(Duration::from_secs(3));
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_request_that_does_not_end_is_cut() {
    let daemon = shown(&[]);
    let mut socket = TcpStream::connect(address(&daemon)).expect("connect");
    socket.write_all(b"GET /livez HTTP/1.1\r\n").expect("send");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(5) && took < Duration::from_secs(20),
        "{took:?}"
    );
    assert_eq!(
        daemon.bites("requests to the metrics address that do not end"),
        1
    );
}

#[test]
fn a_daemon_that_still_joins_is_alive_and_not_ready() {
    // A peer that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = silent.local_addr().expect("an address").port();
    let peer = libp2p::PeerId::random();
    let metrics = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let metrics = metrics.expect("a port");
    let starting = std::thread::spawn(move || {
        Launch::new()
            .args([
                format!("-metricsAddr={metrics}"),
                LISTEN.to_owned(),
                "-b".to_owned(),
                format!("-bootstrapPeers=/ip4/127.0.0.1/tcp/{port}/p2p/{peer}"),
            ])
            .try_spawn()
            .map(drop)
    });
    let mut seen = (false, false);
    let both = eventually(PATIENCE, || {
        if TcpStream::connect(metrics).is_ok() {
            seen.0 |= get(metrics, "/livez").0.contains("200");
            let (head, body) = get(metrics, "/readyz");
            seen.1 |= head.contains("503") && body == "joining the network\n";
        }
        seen == (true, true)
    });
    assert!(both, "{seen:?}");
    assert!(
        starting.join().expect("a thread").is_err(),
        "nobody was reached"
    );
}
