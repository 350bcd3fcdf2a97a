//! The client of the Python package: its example programs, and a suite of the rest on both event
//! loops. The package is taken from the sources, with the built daemon as its binary.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::daemon::binary_under_test;

const SUITE: &str = "py_client";
const RUN: Duration = Duration::from_secs(300);
/// A CID of version 1 of the bytes `a file`.
const A_FILE: &str = "bafkreidtmxictbq6glcsd6aitmakn6zs3lygcubfw2nvthi44u2qdocfyi";

/// Each program of `packaging/python/examples`, and what it prints.
const EXAMPLES: [(&str, &str); 13] = [
    (
        "calls",
        "144\ninvalid literal for int() with base 10: b'twelve'",
    ),
    ("chat", "good morning"),
    ("echo", "HELLO FROM ALICE"),
    (
        "errors",
        "failed to negotiate protocol: protocols not supported: [/nothing/1.0.0]\nDHT not enabled",
    ),
    ("events", "peer connected\npeer disconnected remote"),
    (
        "names",
        "2 cellar\na record begins with its version\ncan't replace a newer value with an older value",
    ),
    ("providers", "bob has "),
    ("records", "blue\nrouting: not found"),
    ("restart", "daemon lost\ndaemon back\nhello\nstill here"),
    (
        "running",
        concat!("connected peers: 0\nversion: ", env!("CARGO_PKG_VERSION")),
    ),
    (
        "steering",
        "100000 bytes\nreceived 100000 and waited\nfailed to dial: gater disallows connection to peer",
    ),
    ("tunnel", "hello from the other side\n1 connection"),
    ("validator", "validation failed\nnews: rain at noon"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = EXAMPLES
        .into_iter()
        .map(|(name, prints)| trial(SUITE, name, move || example(name, prints)))
        .collect();
    trials.push(trial(SUITE, "every_example_is_a_trial", every_example));
    trials.push(trial(SUITE, "suite_asyncio", || suite("asyncio")));
    trials.push(trial(SUITE, "suite_trio", || suite("trio")));
    trials
}

fn example(name: &str, prints: &str) -> Result<(), String> {
    let printed = run(
        python()?.arg(package().join(format!("examples/{name}.py"))),
        RUN,
    )?;
    let expected = if name == "providers" {
        format!("{prints}{A_FILE}")
    } else {
        prints.to_owned()
    };
    assert_eq!(printed.trim(), expected);
    Ok(())
}

fn every_example() -> Result<(), String> {
    let mut found: Vec<_> = std::fs::read_dir(package().join("examples"))
        .map_err(|error| error.to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".py")?.to_owned()))
        .collect();
    found.sort();
    assert_eq!(found, EXAMPLES.map(|(name, _)| name));
    Ok(())
}

fn suite(event_loop: &str) -> Result<(), String> {
    let program = install::source("python/client_suite.py");
    let printed = run(python()?.arg(program).arg(event_loop), RUN)?;
    assert_eq!(printed.lines().count(), 14, "{printed}");
    Ok(())
}

fn package() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/python"))
}

fn python() -> Result<Command, String> {
    let dir = install::PY_CLIENT.as_ref()?;
    let mut command = Command::new(dir.join("venv/bin/python"));
    command
        .env("PYTHONPATH", package())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RP2PD_BIN", binary_under_test());
    Ok(command)
}
