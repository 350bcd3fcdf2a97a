//! The DHT in automatic mode, with the Hivemind fork as the AutoNAT server that dials back.

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
    vec![
        trial(SUITE, "serves_once_dialed_back", serves_once_dialed_back)
            .with_ignored_flag(!possible),
    ]
}

fn serves_once_dialed_back() -> Result<(), String> {
    let python = install::P2PCLIENT_PYTHON.as_ref()?.join("venv/bin/python");
    let stranger = install::HIVEMIND_P2PD.as_ref()?.join("p2pd");
    let printed = run(
        namespace::inside("")
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
