//! What circuits cost on which nothing happens.

use super::relay;
use crate::support::relay::End;

/// Go's fork keeps 32 MiB for each.
#[test]
fn a_thousand_idle_circuits_fit_into_64_mib() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    const CIRCUITS: usize = 1000;
    let relay = relay(&["-relayMaxCircuits=1000"]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let first = source.circuit(&relay, &destination);
    let before = relay.rss_kib();
    let circuits: Vec<_> = (1..CIRCUITS)
        .map(|_| source.circuit(&relay, &destination))
        .collect();
    let report = relay.report();
    let line = format!(", circuits: {CIRCUITS},");
    assert!(report.contains(&line), "{report}");
    let after = relay.rss_kib();
    let each = (after.saturating_sub(before) * 1024) / circuits.len() as u64;
    println!("{CIRCUITS} idle circuits: RSS {after} KiB, {before} KiB with one; {each} bytes each");
    assert!(after < 64 << 10, "{after} KiB with {CIRCUITS} circuits");
    drop((first, circuits));
}
