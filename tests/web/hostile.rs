//! Attacks on control over HTTP.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use super::websocket::{BINARY, PING, Socket};
use super::*;

/// Connections that may be there without a token.
const STRANGERS: usize = 64;

#[test]
fn thousands_that_say_nothing_keep_nobody_out() {
    let web = Web::new(&[]);
    let mut held = Vec::new();
    for _ in 0..2000 {
        let mut socket = web.dial();
        let _ = socket.write_all(b"POST /v1/identify HTTP/1.1\r\nHost: ");
        held.push(socket);
        if held.len() > 3 * STRANGERS {
            held.remove(0);
        }
    }
    assert!(web.call("identify", "")["identify"].is_object());
    let limits = web.call("status", "");
    let limits = limits["status"]["limits"]
        .as_array()
        .expect("limits")
        .clone();
    let bitten = limits.iter().any(|limit| limit["name"] == "web_strangers");
    assert!(bitten, "{limits:?}");
}

#[test]
fn a_head_without_end_is_cut() {
    let web = Web::new(&[]);
    let mut socket = web.dial();
    let begin = format!("POST /v1/identify HTTP/1.1\r\nHost: {}\r\nX: ", web.at);
    socket.write_all(begin.as_bytes()).expect("sent");
    let mut sent = 0;
    while sent < 64 << 20 {
        match socket.write(&[b'a'; 16 << 10]) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert!(web.call("identify", "")["identify"].is_object());
    let many: String = (0..2000)
        .map(|number| format!("X-{number}: a\r\n"))
        .collect();
    let (status, ..) = web.post("identify", "", &many);
    assert!(status == 431 || status == 0, "{status}");
}

#[test]
fn wrong_tokens_at_a_high_rate_cost_others_nothing() {
    let web = Web::new(&[]);
    let begun = Instant::now();
    let mut tried = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        let request = web
            .request("identify", "", "")
            .replace(&web.token, &"0".repeat(64));
        let (status, _, body) = web.raw(&request);
        assert!(
            (status, body.as_str()) == (401, "") || status == 0,
            "{status} {body}"
        );
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
    assert!(web.call("identify", "")["identify"].is_object());
    let document = web.call("status", "");
    let limits = document["status"]["limits"]
        .as_array()
        .expect("limits")
        .clone();
    let tokens = limits.iter().find(|limit| limit["name"] == "web_tokens");
    assert!(
        tokens.is_some_and(|limit| limit["count"].as_u64() > Some(10)),
        "{limits:?}"
    );
}

#[test]
fn bodies_that_are_too_large_or_endless_are_refused() {
    let web = Web::new(&["-persistentConnMaxMsgSize=65536"]);
    let head = |extra: &str| {
        format!(
            "POST /v1/connect HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{extra}\r\n",
            web.at, web.token
        )
    };
    assert_eq!(web.raw(&head("Content-Length: 1000000000000\r\n")).0, 413);
    assert_eq!(web.raw(&head("Transfer-Encoding: chunked\r\n")).0, 411);
    let deep = "[".repeat(100_000);
    let (status, _, text) = web.post("connect", &deep, "");
    assert_eq!(status, 400, "{text}");
}

#[test]
fn readers_that_do_not_read_stop_only_themselves() {
    let web = Web::new(&[]);
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let mut socket = web.dial();
            let request = web.request("events", "", "");
            socket.write_all(request.as_bytes()).expect("sent");
            socket
        })
        .collect();
    let mut sockets: Vec<_> = (0..20).map(|_| Socket::new(&web)).collect();
    for socket in &mut sockets {
        // Requests whose answers nobody reads: in the end the daemon takes no more.
        socket.socket.set_nonblocking(true).expect("set");
        let request = [0x02, 0x08, 0x00].repeat(1000);
        let message = Socket::message(BINARY, &request);
        let mut sent = 0;
        let mut moved = Instant::now();
        while moved.elapsed() < Duration::from_millis(200) {
            match socket.socket.write(&message) {
                Ok(n) => {
                    sent += n;
                    moved = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => break,
            }
            assert!(sent < 256 << 20, "nothing stops the writer");
        }
    }
    // Pings whose answers nobody reads neither.
    let mut pinging = Socket::new(&web);
    pinging.socket.set_nonblocking(true).expect("set");
    let pings = Socket::message(PING, &[0; 125]).repeat(100);
    let (mut sent, mut moved) = (0, Instant::now());
    while moved.elapsed() < Duration::from_millis(500) {
        match pinging.socket.write(&pings) {
            Ok(n) => {
                sent += n;
                moved = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => break,
        }
        assert!(sent < 256 << 20, "nothing stops the pings");
    }
    assert!(web.call("identify", "")["identify"].is_object());
    drop((readers, sockets, pinging));
    let sessions = || {
        let document = web.call("status", "");
        let clients = &document["status"]["clients"];
        (
            clients["subscriptions"].as_u64(),
            clients["requests"].as_u64(),
        )
    };
    // The request itself is one.
    assert!(
        eventually(PATIENCE, || sessions() == (Some(0), Some(1))),
        "{:?}",
        sessions()
    );
}

#[test]
fn names_and_numbers_are_not_made_large() {
    let web = Web::new(&[]);
    // What is repeated of a name is short.
    let (status, _, text) = web.post(
        "connect",
        &format!("{{\"{}\":1}}", "\u{7f}".repeat(7 << 20)),
        "",
    );
    assert_eq!(status, 400, "{}", &text[..text.len().min(100)]);
    assert!(text.len() < 8192, "{}", text.len());
    // A request that is longer as a message than as text.
    let kinds = vec!["-1"; 1 << 20].join(",");
    let (status, _, text) = web.post("events", &format!("{{\"kinds\":[{kinds}]}}"), "");
    assert!(
        status == 400 && text.contains("larger than"),
        "{status} {text}"
    );
}

#[test]
fn ids_of_any_length_cost_little() {
    let web = Web::new(&[]);
    let id = "1".repeat(6 << 20);
    let begun = Instant::now();
    for body in [
        format!("{{\"peer\":\"{id}\"}}"),
        format!("{{\"addrs\":[\"/p2p/{id}\"]}}"),
    ] {
        let (status, _, text) = web.post("connect", &body, "");
        assert!(
            status == 400 && text.contains("has to be"),
            "{status} {text}"
        );
    }
    // Without bounds it is hours.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn an_end_of_the_daemon_ends_everything() {
    let mut web = Web::new(&[]);
    let mut events = web.lines("events", "");
    assert_eq!(events.next().expect("an answer")["type"], "OK");
    let mut socket = Socket::new(&web);
    let _ = socket.identify();
    let status = web.daemon.terminate(PATIENCE);
    assert!(status.success(), "{status:?}");
    let mut rest = Vec::new();
    let _ = socket.socket.read_to_end(&mut rest);
    assert!(TcpStream::connect_timeout(&web.at, Duration::from_secs(5)).is_err());
}
