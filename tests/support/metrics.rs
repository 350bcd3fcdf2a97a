//! Metrics, read as Prometheus reads them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::{Daemon, PATIENCE, eventually};

/// Where the daemon says that its page is.
#[must_use]
pub fn address(daemon: &Daemon) -> SocketAddr {
    let found = || {
        let text = daemon.stderr();
        let (_, rest) = text.split_once("status page: http://")?;
        rest.split_once('/')?.0.parse().ok()
    };
    assert!(
        eventually(PATIENCE, || found().is_some()),
        "{}",
        daemon.stderr()
    );
    found().expect("an address")
}

/// Sends `request` and reads all that comes.
#[must_use]
pub fn exchange(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.write_all(request.as_bytes()).expect("send");
    let mut answer = String::new();
    // What was answered before a reset counts.
    let _ = socket.read_to_string(&mut answer);
    answer
}

/// The head and the body of the answer to GET.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let answer = exchange(address, &request);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer}"));
    (head.to_owned(), body.to_owned())
}

/// What `/metrics` of a daemon says.
#[must_use]
pub fn scrape(daemon: &Daemon) -> String {
    let (head, body) = get(address(daemon), "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.ends_with("# EOF\n"));
    body
}

/// Every sample: name, labels, value.
pub type Sample = (String, BTreeMap<String, String>, f64);

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a quote");
        found.insert(name.trim_matches([',', ' ']).to_owned(), value.to_owned());
        rest = after;
    }
    found
}

/// The samples of a text in the format of Prometheus.
#[must_use]
pub fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value = value
                .parse()
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let (name, inner) = series.split_once('{').unwrap_or((series, ""));
            (name.to_owned(), labels(inner.trim_end_matches('}')), value)
        })
        .collect()
}

/// The sum of the samples that have these labels.
#[must_use]
pub fn value(samples: &[Sample], name: &str, wanted: &[(&str, &str)]) -> f64 {
    let fits = |labels: &BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(name, value)| labels.get(*name).is_some_and(|told| told == value))
    };
    let found = samples
        .iter()
        .filter(|(told, labels, _)| told == name && fits(labels));
    found.map(|(_, _, value)| value).sum()
}
