//! `rp2pd expose`, `forward` and `tunnels`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use super::*;

fn command(daemon: &Daemon, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rp2pd"));
    let listen = format!("-listen={}", daemon.control().multiaddr());
    command.arg(listen).args(words).stdin(Stdio::null());
    command
}

fn run(daemon: &Daemon, words: &[&str]) -> (String, String, Option<i32>) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(daemon, words).output().expect("the program");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(stdout), text(stderr), status.code())
}

/// A command that goes on, and its lines.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn new(daemon: &Daemon, words: &[&str]) -> Self {
        let spawned = command(daemon, words).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("the program");
        let lines = BufReader::new(child.stdout.take().expect("stdout"));
        Self(child, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_web_server_is_exposed_in_two_commands() {
    let (near, far) = (node(), node());
    let (addr, accepted) = service::by_hand();
    std::thread::spawn(move || {
        while let Some(mut socket) = accepted.within(PATIENCE) {
            let mut request = [0; 1024];
            let n = socket.read(&mut request).expect("a request");
            assert!(request[..n].starts_with(b"GET / "));
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            socket.write_all(answer.as_bytes()).expect("sent");
        }
    });
    let (name, port) = ("web", addr.port().to_string());
    let id = near.peer_id().to_string();
    let mut exposed = Running::new(&far, &["expose", name, &port, &id]);
    assert_eq!(
        exposed.line(),
        format!("1: /x/web leads to {addr} for {id}")
    );
    let peer = format!("{}/p2p/{}", far.addrs()[0], far.peer_id());
    let mut forwarded = Running::new(&near, &["forward", name, &peer]);
    let line = forwarded.line();
    let (start, end) = line.split_once(" leads to ").expect("a line");
    assert_eq!(end, format!("/x/web of {}", far.peer_id()));
    let at = start.strip_prefix("1: ").expect("a number");
    let (head, body) = support::metrics::get(at.parse().expect("an address"), "/");
    assert!(
        head.starts_with("HTTP/1.1 200") && body == "hello",
        "{head} {body}"
    );
    let (text, ..) = run(&far, &["tunnels"]);
    let row: Vec<_> = text
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row[..5], ["1", "expose", "/x/web", &addr.to_string(), &id]);
    assert_eq!(row[6], "1");
    // It ends with the command.
    drop(exposed);
    assert!(eventually(PATIENCE, || list(&far).is_empty()));
    // The peer has said that it knows the name, and does so no more.
    assert_refused(at.parse().expect("an address"));
    let line = forwarded.line();
    assert!(line.starts_with("a connection failed: "), "{line}");
    drop(forwarded);
    assert!(eventually(PATIENCE, || list(&near).is_empty()));
}

#[test]
fn what_is_kept_stays_until_it_is_closed() {
    let (near, far) = pair();
    let addr = service::echo().to_string();
    let told = run(&far, &["expose", "--keep", NAME, &addr, "--any-peer"]);
    let line = format!("1: {NAME} leads to {addr} for every peer\n");
    assert_eq!((told.0, told.2), (line, Some(0)), "{}", told.1);
    let peer = far.peer_id().to_string();
    let (line, _, code) = run(&near, &["forward", NAME, &peer, "127.0.0.1:0", "-keep"]);
    assert_eq!(code, Some(0));
    let (at, _) = line.split_once(" leads").expect("a line");
    let mut socket = dial(at[3..].parse().expect("an address"));
    socket.write_all(b"x").expect("sent");
    socket.read_exact(&mut [0]).expect("came back");
    assert_eq!(run(&near, &["tunnels", "close", "1"]).2, Some(0));
    assert_eq!(list(&near), []);
    let (_, error, code) = run(&near, &["tunnels", "close", "1"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("tunnel 1 does not exist"), "{error}");
}

#[test]
fn words_that_mean_nothing_are_refused() {
    let daemon = node();
    for (words, reason, code) in [
        (
            &["forward", "web"][..],
            "name the service, and the peer that exposes it",
            2,
        ),
        (
            &["expose", "web", "80"],
            "name the peers that may use it, or say --any-peer",
            2,
        ),
        (&["expose", "web"], "name the service, and its port", 2),
        (&["tunnels", "x"], "tunnels does not take \"x\"", 2),
        (
            &["tunnels", "close"],
            "name tunnels by the numbers that `tunnels` shows",
            2,
        ),
        (&["forward", "web", "nobody"], "nobody: not a peer id", 1),
        (
            &["expose", "web", "port", "--any-peer"],
            "port: not a port",
            1,
        ),
        (
            &["expose", "--kept", "web", "80"],
            "flag provided but not defined: -kept",
            2,
        ),
    ] {
        let (_, error, status) = run(&daemon, words);
        assert_eq!(status, Some(code), "{words:?}: {error}");
        assert!(error.contains(reason), "{words:?}: {error}");
    }
}
