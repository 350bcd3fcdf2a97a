//! The report of SIGUSR1 (COMPATIBILITY.md 1.9).

use super::start::Running;
use crate::{limit_hits, pubsub::PubSub};

/// What each layer knows, as text.
pub(super) fn text(running: &Running) -> String {
    let dht = running.dht.as_ref().map(|dht| dht.snapshot().to_string());
    let pubsub = running.pubsub.as_ref().map(of_pubsub);
    dht.unwrap_or_default()
        + &running.node.report()
        + &pubsub.unwrap_or_default()
        + &running.pressure.report()
        + &limit_hits::report()
}

/// One line of the report.
fn of_pubsub(pubsub: &PubSub) -> String {
    let now = pubsub.snapshot();
    format!(
        "Pubsub messages published: {}, delivered: {}, lost by slow subscribers: {}, \
         lost by slow peers: {}, duplicates: {}, refused: {}\n",
        now.published,
        now.delivered,
        now.lost_by_subscribers,
        now.lost_by_peers,
        now.duplicates,
        now.rejected
    )
}
