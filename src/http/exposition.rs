//! What there is, in the text format of OpenMetrics, which Prometheus reads.
//!
//! Names and labels are go-libp2p's where the meaning is the same. What rp2pd does not know is left
//! out: a board then says that there are no data, which is true.

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::process;
use crate::{
    limit_hits::{Count, Limit},
    metrics::metrics,
    node::Reach,
    status::{Snapshot, Sources},
};

/// The type of the text.
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;

/// Everything.
pub(super) fn text(sources: &Sources, ready: bool) -> String {
    let now = sources.snapshot();
    let mut registry = Registry::default();
    rcmgr(&mut registry, &now);
    identify(&mut registry, &now);
    own(&mut registry, &now, ready);
    if let Some(dht) = &now.dht {
        of_dht(&mut registry, dht);
    }
    if let Some(pubsub) = &now.pubsub {
        of_pubsub(&mut registry, pubsub);
    }
    process::register(&mut registry, now.uptime);
    let mut out = String::with_capacity(32 << 10);
    // Writing to a String cannot fail.
    let _ = metrics().encode(&mut out);
    let _ = text::encode(&mut out, &registry);
    out
}

fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<i64>) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    registry.register(name, help, gauge);
}

fn gauges<L: IntoIterator<Item = (Labels, i64)>>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    all: L,
) {
    let family = Gauges::default();
    for (labels, value) in all {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn counters<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    all: [(&'static str, u64); N],
) {
    let family = Counters::default();
    for (value, count) in all {
        let labels = vec![(label, value.to_owned())];
        family.get_or_create(&labels).inc_by(count);
    }
    registry.register(name, help, family);
}

fn labels<const N: usize>(all: [(&'static str, &str); N]) -> Labels {
    all.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// go-libp2p's resource manager.
fn rcmgr(registry: &mut Registry, now: &Snapshot) {
    let to = registry.sub_registry_with_prefix("libp2p_rcmgr");
    let all = || now.node.peers.iter().flat_map(|peer| &peer.connections);
    let scoped = |dir: &str, scope: &str| labels([("dir", dir), ("scope", scope)]);
    let dialed = all().filter(|one| one.dialed).count();
    let (pending_in, pending_out) = metrics().swarm.pending();
    gauges(
        to,
        "connections",
        "Connections; transient are those that are not upgraded yet",
        [
            (scoped("inbound", "system"), signed(all().count() - dialed)),
            (scoped("outbound", "system"), signed(dialed)),
            (scoped("inbound", "transient"), signed(pending_in)),
            (scoped("outbound", "transient"), signed(pending_out)),
        ],
    );
    let inbound: usize = all().map(|one| one.inbound_streams).sum();
    let outbound: usize = all().map(|one| one.outbound_streams).sum();
    let streams = |dir: &str, scope: &str, protocol: &str| {
        labels([("dir", dir), ("scope", scope), ("protocol", protocol)])
    };
    let negotiating = metrics().streams.negotiating();
    let mut counted = vec![
        (streams("inbound", "system", ""), signed(inbound)),
        (streams("outbound", "system", ""), signed(outbound)),
        (streams("inbound", "transient", ""), signed(negotiating)),
    ];
    counted.extend(
        metrics()
            .streams
            .by_protocol()
            .into_iter()
            .map(|(name, count)| (streams("inbound", "protocol", &name), count)),
    );
    gauges(
        to,
        "streams",
        "Streams; of single protocols those that peers have opened to handlers here",
        counted,
    );
    let held = labels([("scope", "system"), ("protocol", "")]);
    gauges(
        to,
        "memory",
        "Bytes in use by the process, as the limit of -memoryLimit counts them",
        [(held, signed(now.memory.used))],
    );
    let sockets = all().filter(|one| matches!(one.transport, "tcp" | "ws" | "wss"));
    gauges(
        to,
        "fds",
        "Descriptors of connections",
        [(labels([("scope", "system")]), signed(sockets.count()))],
    );
    gauges(
        to,
        "blocked_resources",
        "Refusals since the start",
        now.limits.iter().filter_map(blocked),
    );
}

/// A limit in the words of go-libp2p's resource manager, where it has some.
fn blocked(reached: &Count) -> Option<(Labels, i64)> {
    let (dir, scope, resource) = match reached.limit {
        Limit::PendingInbound => ("inbound", "transient", "connection"),
        Limit::PendingOutbound => ("outbound", "transient", "connection"),
        Limit::Inbound => ("inbound", "system", "connection"),
        Limit::Established => ("", "system", "connection"),
        Limit::PerPeer => ("", "peer", "connection"),
        Limit::PerAddress | Limit::AddressRate => ("inbound", "peer", "connection"),
        Limit::Streams => ("inbound", "system", "stream"),
        Limit::MemoryInbound | Limit::MemoryStreams => ("inbound", "system", "memory"),
        Limit::PeerDescriptors => ("", "system", "fd"),
        _ => return None,
    };
    let names = labels([("dir", dir), ("scope", scope), ("resource", resource)]);
    Some((names, signed(reached.count)))
}

fn identify(registry: &mut Registry, now: &Snapshot) {
    let to = registry.sub_registry_with_prefix("libp2p_identify");
    let addresses = now.node.addresses.len();
    gauge(
        to,
        "addrs_count",
        "Addresses that identify tells",
        addresses,
    );
    let protocols = now.node.announced;
    gauge(
        to,
        "protocols_count",
        "Protocols that identify tells",
        protocols,
    );
    let reach = match now.reach {
        Reach::Unknown => 0,
        Reach::Public => 1,
        Reach::Private => 2,
    };
    gauge(
        registry,
        "libp2p_autonat_reachability_status",
        "0 unknown, 1 public, 2 private",
        reach,
    );
}

/// What go-libp2p has no name for.
fn own(registry: &mut Registry, now: &Snapshot, ready: bool) {
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
    to.register("limit_hits", "How often each limit has bitten", hits);
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
    gauge(
        to,
        "bootstrap_peers_connected",
        "Bootstrap peers",
        now.bootstrap.0,
    );
}

fn of_dht(registry: &mut Registry, dht: &crate::dht::Snapshot) {
    let to = registry.sub_registry_with_prefix("rp2pd_dht");
    gauge(
        to,
        "table_peers",
        "Peers of the routing table",
        dht.table_size(),
    );
    gauge(to, "records", "Records held", dht.records.entries);
    gauge(
        to,
        "providers",
        "Provider records held",
        dht.providers.entries,
    );
    gauge(
        to,
        "queries_in_flight",
        "Queries of clients under way",
        dht.queries,
    );
    counters(
        to,
        "requests",
        "Requests of peers that were answered or refused, and requests to peers that failed",
        "outcome",
        [
            ("answered", dht.answered),
            ("refused", dht.refused),
            ("failed", dht.failed),
        ],
    );
}

fn of_pubsub(registry: &mut Registry, pubsub: &crate::pubsub::Snapshot) {
    let to = registry.sub_registry_with_prefix("rp2pd_pubsub");
    gauge(to, "peers", "Peers that speak pubsub", pubsub.peers.len());
    gauge(to, "topics", "Topics of this node", pubsub.topics.len());
    let mesh: usize = pubsub.topics.values().map(|topic| topic.mesh).sum();
    gauge(to, "mesh_peers", "Peers in the meshes of all topics", mesh);
    counters(
        to,
        "messages",
        "Messages by what became of them",
        "event",
        [
            ("published", pubsub.published),
            ("delivered", pubsub.delivered),
            ("duplicate", pubsub.duplicates),
            ("rejected", pubsub.rejected),
        ],
    );
    counters(
        to,
        "lost",
        "Messages lost because somebody read too slowly",
        "where",
        [
            ("subscriber", pubsub.lost_by_subscribers),
            ("peer", pubsub.lost_by_peers),
        ],
    );
}
