//! Autorelay, as go-libp2p counts it.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::{Counters, counters, gauge, labels};
use crate::relay::autorelay::{Snapshot, State};

/// The series of go-libp2p's autorelay.
pub(super) fn register(registry: &mut Registry, now: &Snapshot) {
    let to = registry.sub_registry_with_prefix("libp2p_autorelay");
    let counts = &now.counts;
    gauge(
        to,
        "status",
        "1 while relays are looked for or held",
        u8::from(now.state != State::Idle),
    );
    gauge(to, "desired_reservations", "Places wanted", now.desired);
    let addresses: usize = now
        .reservations
        .iter()
        .map(|held| held.addresses.len())
        .sum();
    gauge(
        to,
        "relay_addresses_count",
        "Addresses of relays that hold places",
        addresses,
    );
    for (name, help, count) in [
        ("reservations_opened", "Places gained", counts.opened),
        ("reservations_closed", "Places lost", counts.closed),
        (
            "relay_addresses_updated",
            "Changes of the addresses",
            counts.updated,
        ),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        to.register(name, help, counter);
    }
    let requests = Counters::default();
    for ((kind, outcome), count) in &counts.requests {
        let labels = labels([("request_type", kind), ("outcome", outcome)]);
        requests.get_or_create(&labels).inc_by(*count);
    }
    to.register(
        "reservation_requests_outcome",
        "Requests for a place",
        requests,
    );
    let (would, would_not) = counts.supported;
    counters(
        to,
        "candidates_circuit_v2_support",
        "Peers that were found, by whether they would do as relays",
        "support",
        [("yes", would), ("no", would_not)],
    );
    let (added, removed) = counts.candidates;
    counters(
        to,
        "candidates",
        "Found relays remembered and forgotten",
        "type",
        [("added", added), ("removed", removed)],
    );
}
