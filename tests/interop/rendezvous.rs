//! py-libp2p and daemons meet at each other's rendezvous points.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::daemon::binary_under_test;

pub fn trials() -> Vec<Trial> {
    vec![trial("rendezvous", "py_libp2p_meets_and_is_met", || {
        let python = install::PY_LIBP2P.as_ref()?.join("venv/bin/python");
        let printed = run(
            Command::new(python)
                .arg(install::source("python/rendezvous.py"))
                .arg(binary_under_test()),
            Duration::from_secs(200),
        )?;
        assert_eq!(printed.lines().next(), Some("met"), "{printed}");
        Ok(())
    })]
}
