//! py-libp2p and two daemons find each other by multicast DNS.

use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::{daemon::binary_under_test, namespace};

/// One interface with an address, and a route by it.
const SET_UP: &str = "ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.9.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
ip route add default dev v0";

/// Ignored where network namespaces are not allowed, whatever `CI` says: no package brings them.
pub fn trials() -> Vec<Trial> {
    let possible = namespace::inside(SET_UP).is_some();
    let found = trial("mdns", "py_libp2p_finds_and_is_found", || {
        let python = install::PY_LIBP2P.as_ref()?.join("venv/bin/python");
        let printed = run(
            namespace::inside(SET_UP)
                .ok_or("no network namespaces")?
                .arg(python)
                .arg(install::source("python/mdns.py"))
                .arg(binary_under_test()),
            Duration::from_secs(120),
        )?;
        assert_eq!(printed.lines().next(), Some("found"), "{printed}");
        Ok(())
    });
    vec![found.with_ignored_flag(!possible)]
}
