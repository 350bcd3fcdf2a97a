//! The main job as a user meets it first: a Python program and two daemons.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::Launch;
use crate::support::daemon::binary_under_test;

const SUITE: &str = "quickstart";
const RUN: Duration = Duration::from_secs(180);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(SUITE, "two_daemons_echo_100MiB", two_daemons),
        trial(SUITE, "p2pclient_example", p2pclient_example),
    ]
}

fn two_daemons() -> Result<(), String> {
    let printed = run(
        python()?
            .arg(install::source("python/two_daemons.py"))
            .arg(binary_under_test())
            .arg("100"),
        RUN,
    )?;
    if printed.contains("checksums agree") {
        return Ok(());
    }
    Err(printed)
}

/// The example, with its sockets moved out of the way of other runs.
fn p2pclient_example() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let sockets = format!("/unix{}/", dir.path().display());
    let daemon = |name: &str| {
        Launch::new()
            .listen(&format!("{sockets}{name}.sock"))
            .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
            .spawn()
    };
    let (_alice, _bob) = (daemon("alice"), daemon("bob"));
    let program = std::fs::read_to_string(install::source("python/quickstart.py"))
        .map_err(|error| error.to_string())?
        .replace("/unix/tmp/", &sockets);
    let printed = run(python()?.arg("-c").arg(program), RUN)?;
    assert_eq!(printed.trim(), "HELLO FROM ALICE");
    Ok(())
}

fn python() -> Result<Command, String> {
    let dir = install::P2PCLIENT_PYTHON.as_ref()?;
    Ok(Command::new(dir.join("venv/bin/python")))
}
