//! The DHT in automatic mode, with the Hivemind fork as the AutoNAT server that dials back.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::daemon::binary_under_test;

const SUITE: &str = "auto_mode";
const RUN: Duration = Duration::from_secs(120);

/// Ignored where network namespaces are not allowed, whatever `CI` says: no package brings them.
pub fn trials() -> Vec<Trial> {
    let possible = unshare().is_some();
    vec![
        trial(SUITE, "serves_once_dialed_back", serves_once_dialed_back)
            .with_ignored_flag(!possible),
    ]
}

fn serves_once_dialed_back() -> Result<(), String> {
    let python = install::P2PCLIENT_PYTHON.as_ref()?.join("venv/bin/python");
    let stranger = install::HIVEMIND_P2PD.as_ref()?.join("p2pd");
    let printed = run(
        unshare()
            .ok_or("no network namespaces")?
            .arg(python)
            .arg(install::source("python/auto_mode.py"))
            .arg(binary_under_test())
            .arg(stranger),
        RUN,
    )?;
    assert_eq!(printed.trim(), "serves");
    Ok(())
}

/// A command that runs another in a network namespace of its own.
fn unshare() -> Option<Command> {
    [&["--net"][..], &["--net", "--map-root-user"]]
        .into_iter()
        .find(|flags| {
            let tried = Command::new("unshare").args(*flags).arg("true").output();
            tried.is_ok_and(|output| output.status.success())
        })
        .map(|flags| {
            let mut command = Command::new("unshare");
            command.args(flags);
            command
        })
}
