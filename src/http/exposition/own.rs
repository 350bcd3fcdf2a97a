//! What go-libp2p has no name for.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::{Counters, counters, gauge, gauges, labels, signed};
use crate::{status::Snapshot, telemetry::lines_lost};

pub(super) fn register(registry: &mut Registry, now: &Snapshot, ready: bool) {
    let to = registry.sub_registry_with_prefix("rp2pd");
    let version = labels([("version", env!("CARGO_PKG_VERSION"))]);
    gauges(to, "build_info", "The version that runs", [(version, 1)]);
    gauge(to, "ready", "Whether the start is over", u8::from(ready));
    gauge(to, "peers", "Connected peers", now.node.peers.len());
    let clients = now.clients;
    gauges(
        to,
        "control_connections",
        "Connections of clients by their use",
        [
            ("request", clients.requests),
            ("pipe", clients.streams),
            ("subscription", clients.subscriptions),
            ("persistent", clients.persistent),
        ]
        .map(|(kind, count)| (labels([("kind", kind)]), signed(count))),
    );
    let handlers = || now.node.handlers.iter().filter(|one| !one.is_builtin);
    gauges(
        to,
        "handlers",
        "Registrations of clients",
        [
            ("stream", handlers().map(|one| one.streams).sum::<usize>()),
            ("call", handlers().map(|one| one.calls).sum()),
        ]
        .map(|(kind, count)| (labels([("kind", kind)]), signed(count))),
    );
    counters(
        to,
        "stream_bytes",
        "Payload of streams",
        "dir",
        [("inbound", now.node.received), ("outbound", now.node.sent)],
    );
    counters(
        to,
        "inbound_streams",
        "Streams that peers have opened to handlers here",
        "outcome",
        [("served", now.node.served), ("refused", now.node.refused)],
    );
    let hits = Counters::default();
    for reached in &now.limits {
        let limit = vec![("limit", reached.limit.label())];
        hits.get_or_create(&limit).inc_by(reached.count);
    }
    to.register("limit_hits", "How often each limit was reached", hits);
    gauge(
        to,
        "memory_used_bytes",
        "As -memoryLimit counts it",
        now.memory.used,
    );
    gauge(
        to,
        "memory_limit_bytes",
        "What may be used",
        now.memory.limit,
    );
    let pressure = u8::from(now.memory.refuses_connections) + u8::from(now.memory.refuses_streams);
    gauge(
        to,
        "memory_pressure",
        "1 while inbound connections are refused for want of memory, 2 while streams are too",
        pressure,
    );
    let lost = Counter::<u64>::default();
    lost.inc_by(lines_lost());
    to.register(
        "log_lines_lost",
        "Lines that were not written because a reader was too slow",
        lost,
    );
    gauge(
        to,
        "bootstrap_peers_connected",
        "Bootstrap peers",
        now.bootstrap.0,
    );
}
