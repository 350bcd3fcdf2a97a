//! Control over HTTP and `rp2pd call`: JSON and WebSockets (PROTOCOL.md 8).

#[path = "../support/mod.rs"]
mod support;

mod form;
mod gate;
mod hostile;
mod json;
mod program;
mod websocket;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use serde_json::Value;
use support::{Daemon, PATIENCE, eventually};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A daemon that is controlled over HTTP.
struct Web {
    daemon: Daemon,
    at: SocketAddr,
    token: String,
    _folder: tempfile::TempDir,
}

impl Web {
    fn new(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file: PathBuf = folder.path().join("token");
        let token = format!("-controlToken={}", file.display());
        let mut args = vec![LISTEN, "-controlHttp=127.0.0.1:0", &token];
        args.extend(flags);
        let daemon = Daemon::spawn(&args);
        let found = || {
            let text = daemon.stderr();
            let (_, rest) = text.split_once("control over http: http://")?;
            rest.split_once('/')?.0.parse().ok()
        };
        assert!(
            eventually(PATIENCE, || found().is_some()),
            "{}",
            daemon.stderr()
        );
        let at = found().expect("an address");
        let token = std::fs::read_to_string(&file).expect("a token");
        Self {
            daemon,
            at,
            token: token.trim().to_owned(),
            _folder: folder,
        }
    }

    fn dial(&self) -> TcpStream {
        let socket = TcpStream::connect_timeout(&self.at, PATIENCE).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    }

    /// Sends `request` as it is, and reads to the end: the status, the head and the body.
    fn raw(&self, request: &str) -> (u16, String, String) {
        let mut socket = self.dial();
        // It may be refused before it is read.
        let _ = socket.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        split(&String::from_utf8_lossy(&answer))
    }

    /// POST with the token and further headers.
    fn post(&self, verb: &str, body: &str, headers: &str) -> (u16, String, String) {
        self.raw(&self.request(verb, body, headers))
    }

    fn request(&self, verb: &str, body: &str, headers: &str) -> String {
        format!(
            "POST /v1/{verb} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            self.at,
            self.token,
            body.len()
        )
    }

    /// The answer, which is OK.
    fn call(&self, verb: &str, body: &str) -> Value {
        let (status, head, text) = self.post(verb, body, "");
        assert_eq!(status, 200, "{head} {text}");
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The lines of an answer that goes on.
    fn lines(&self, verb: &str, body: &str) -> Lines {
        let mut socket = self.dial();
        let request = self.request(verb, body, "");
        socket.write_all(request.as_bytes()).expect("sent");
        let mut lines = Lines(BufReader::new(socket));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(lines.0.read_line(&mut head).expect("a head"), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains("content-type: application/x-ndjson"),
            "{head}"
        );
        lines
    }
}

fn split(answer: &str) -> (u16, String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.unwrap_or(0),
        head.to_ascii_lowercase(),
        body.to_owned(),
    )
}

/// A body in chunks, one document a line.
struct Lines(BufReader<TcpStream>);

impl Lines {
    /// The next document; none at the end.
    fn next(&mut self) -> Option<Value> {
        let mut size = String::new();
        self.0.read_line(&mut size).expect("a chunk");
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk).expect("a chunk");
        (size > 0).then(|| serde_json::from_slice(&chunk[..size]).expect("JSON"))
    }
}
