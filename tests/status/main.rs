//! What can be seen of a running daemon: STATUS, `rp2pd status`, metrics, the page
//! (COMPATIBILITY.md 6).

#[path = "../support/mod.rs"]
mod support;

mod command;
mod http;
mod logs;
mod metrics;
mod page;
mod request;

use serde_json::Value;

use support::{Daemon, Launch};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// What the daemon says of itself over its control socket.
fn status(daemon: &Daemon) -> Value {
    request::ask(&mut daemon.client())
}

/// `/path/below` in a document.
fn at<'a>(document: &'a Value, path: &str) -> &'a Value {
    let found = document.pointer(path);
    found.unwrap_or_else(|| panic!("no {path} in {document:#}"))
}

fn number(document: &Value, path: &str) -> u64 {
    let found = at(document, path);
    found.as_u64().unwrap_or_else(|| panic!("{path}: {found}"))
}

fn text<'a>(document: &'a Value, path: &str) -> &'a str {
    let found = at(document, path);
    found.as_str().unwrap_or_else(|| panic!("{path}: {found}"))
}

/// A daemon that takes part in everything.
fn full() -> Daemon {
    Launch::new()
        .args([LISTEN, "-dhtServer", "-pubsub"])
        .spawn()
}
