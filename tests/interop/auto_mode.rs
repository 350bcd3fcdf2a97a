//! The DHT in automatic mode: the Hivemind fork dials back, and is dialed back.

use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::{daemon::binary_under_test, namespace};

const SUITE: &str = "auto_mode";
const RUN: Duration = Duration::from_secs(120);

/// Ignored where network namespaces are not allowed, whatever `CI` says: no package brings them.
pub fn trials() -> Vec<Trial> {
    let possible = namespace::inside("").is_some();
    let trials = vec![
        trial(SUITE, "serves_once_dialed_back", || {
            serves_once_dialed_back(binary_under_test(), hivemind()?)
        }),
        trial(SUITE, "the_fork_serves_once_dialed_back", || {
            serves_once_dialed_back(hivemind()?, binary_under_test())
        }),
    ];
    let ignored = |trial: Trial| trial.with_ignored_flag(!possible);
    trials.into_iter().map(ignored).collect()
}

fn hivemind() -> Result<PathBuf, String> {
    Ok(install::HIVEMIND_P2PD.as_ref()?.join("p2pd"))
}

/// `program` asks, `stranger` dials back.
fn serves_once_dialed_back(program: PathBuf, stranger: PathBuf) -> Result<(), String> {
    let python = install::P2PCLIENT_PYTHON.as_ref()?.join("venv/bin/python");
    let printed = run(
        namespace::inside("")
            .ok_or("no network namespaces")?
            .arg(python)
            .arg(install::source("python/auto_mode.py"))
            .arg(program)
            .arg(stranger),
        RUN,
    )?;
    assert_eq!(printed.trim(), "serves");
    Ok(())
}
