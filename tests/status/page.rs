//! The page in a browser without a window.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::http::shown;
use super::status;
use super::support::metrics::{address, get};

/// What a peer may say of its program, to be shown as it is.
const HOSTILE: &str = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\u{202e}\u{1b}[31m";

/// A browser, if there is one. `CI` in the environment wants one.
fn browser() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            let run = Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .status();
            run.is_ok_and(|status| status.success())
        });
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "no browser"
    );
    found
}

/// The page as the browser has it after its script has run.
fn drawn(browser: &str, address: SocketAddr) -> String {
    let home = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=3000",
        ])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .args(["--dump-dom", &format!("http://{address}/")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a browser");
    let mut out = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + Duration::from_secs(90);
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().expect("a thread").expect("a page")
}

/// Serves the daemon's own page, head and all, beside a document of the test's own.
fn serve(head: String, page: String, document: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut request = [0; 4096];
            let count = socket.read(&mut request).unwrap_or(0);
            let is_document = request[..count].starts_with(b"GET /status.json");
            let answer = match is_document {
                true => format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{document}",
                    document.len()
                ),
                false => format!("{head}\r\n\r\n{page}"),
            };
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_browser_shows_what_the_daemon_knows() {
    let Some(browser) = browser() else { return };
    let (daemon, other) = (shown(&["-dhtServer", "-pubsub"]), shown(&["-dhtServer"]));
    daemon.connect_to(&other);
    let page = drawn(browser, address(&daemon));
    for text in [
        &daemon.peer_id().to_base58(),
        &other.peer_id().to_base58(),
        "outbound",
        "/ipfs/kad/1.0.0",
        "server, 1 peers",
        "<polyline",
        "received (solid line)",
    ] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    assert!(
        page.contains("id=\"problem\" role=\"status\" hidden"),
        "{page}"
    );
}

#[test]
fn what_peers_say_is_text_and_never_a_part_of_the_page() {
    let Some(browser) = browser() else { return };
    let daemon = shown(&["-pubsub"]);
    let (head, page) = get(address(&daemon), "/");
    let mut document = status(&daemon);
    document["peers_connected"] = json!(1);
    document["peers"] = json!([{
        "id": HOSTILE, "agent": HOSTILE, "protocols": 1, "round_trip_micros": null,
        "connections": [{
            "address": HOSTILE, "direction": "inbound", "transport": "tcp", "security": "", "muxer": "",
            "age": 90061, "inbound_streams": 0, "outbound_streams": 0, "memory": 0,
            "received": 1536, "sent": 0,
        }],
    }]);
    document["pubsub"]["topics"] = json!([{
        "topic": HOSTILE, "subscribers": 1, "peers": 0, "mesh": 0, "fanout": 0,
    }]);
    document["relay"] = json!({ "reservations": 3, "circuits": 2 });
    document["autorelay"] = json!({
        "state": "hold", "candidates": 0, "desired": 2,
        "reservations": [{
            "relay": HOSTILE, "trusted": true, "expires_in": 3660, "data_limit": 131_072,
            "time_limit": 0, "addresses": [HOSTILE],
        }],
    });
    let page = drawn(browser, serve(head, page, document.to_string()));
    for text in [
        "1 of 2",
        "3 places, 2 circuits",
        "1h 1m",
        "128 KiB",
        "no limit",
    ] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    assert!(page.contains("&lt;img src=x"), "{page}");
    assert!(page.contains("1.5 KiB") && page.contains("1d 1h"), "{page}");
    assert!(
        !page.contains("<img") && !page.contains("taken</title>"),
        "{page}"
    );
    assert!(page.contains("<title>rp2pd</title>"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    assert!(
        !page.contains('\u{202e}') && !page.contains('\u{1b}'),
        "{page}"
    );
}
