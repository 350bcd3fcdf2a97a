//! The DHT, pubsub and the relay.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::{counters, gauge, gauges, labels, signed};
use crate::{control::tunnels, dht, metrics::metrics, pubsub, relay};

/// The DHT.
pub(super) fn dht(registry: &mut Registry, dht: &dht::Snapshot) {
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

/// Pubsub.
pub(super) fn pubsub(registry: &mut Registry, pubsub: &pubsub::Snapshot) {
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

/// go-libp2p's relay service. While it is off, only that is told.
pub(super) fn relay(registry: &mut Registry, relay: Option<&relay::Snapshot>) {
    let to = registry.sub_registry_with_prefix("libp2p_relaysvc");
    gauge(
        to,
        "status",
        "1 while this node relays",
        u8::from(relay.is_some()),
    );
    let Some(relay) = relay else { return };
    let (opened, renewed) = metrics().relay.reservations();
    counters(
        to,
        "reservations",
        "Reservations of peers",
        "type",
        [
            ("opened", opened),
            ("renewed", renewed),
            ("closed", opened.saturating_sub(relay.reservations as u64)),
        ],
    );
    let (begun, running) = (relay.circuits_begun, relay.circuits as u64);
    counters(
        to,
        "connections",
        "Circuits",
        "type",
        [("opened", begun), ("closed", begun.saturating_sub(running))],
    );
    let bytes = Counter::<u64>::default();
    // go-libp2p counts one direction, and its boards double that.
    bytes.inc_by(relay.bytes / 2);
    to.register(
        "data_transferred_bytes",
        "Half of the bytes passed on",
        bytes,
    );
}

/// Local ports that are carried to peers.
pub(super) fn tunnels(registry: &mut Registry, now: &tunnels::Snapshot) {
    let to = registry.sub_registry_with_prefix("rp2pd_tunnel");
    let forwards = now.tunnels.iter().filter(|tunnel| tunnel.is_forward);
    let forwards = forwards.count();
    let kinds = [
        ("forward", forwards),
        ("expose", now.tunnels.len() - forwards),
    ];
    gauges(
        to,
        "count",
        "Tunnels",
        kinds.map(|(kind, count)| (labels([("kind", kind)]), signed(count))),
    );
    gauge(
        to,
        "open_connections",
        "Connections of all tunnels",
        now.totals.open,
    );
    counters(
        to,
        "connections",
        "Connections of tunnels so far, and those of them that failed or were refused",
        "event",
        [("opened", now.totals.total), ("failed", now.totals.failed)],
    );
    counters(
        to,
        "bytes",
        "Payload of tunnels",
        "direction",
        [("received", now.totals.received), ("sent", now.totals.sent)],
    );
}
