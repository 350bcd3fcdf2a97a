//! What go-libp2p's resource manager tells.

use prometheus_client::registry::Registry;

use super::{Labels, gauges, labels, signed};
use crate::{
    limit_hits::{Count, Limit},
    metrics::metrics,
    status::Snapshot,
};

/// go-libp2p's resource manager.
pub(super) fn register(registry: &mut Registry, now: &Snapshot) {
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
    let limit = |resource, limit| {
        let names = labels([("scope", "system"), ("resource", resource)]);
        (limit > 0).then_some((names, signed(limit)))
    };
    let capacity = now.capacity;
    gauges(
        to,
        "limit",
        "What there may be of each",
        [
            limit("conns", capacity.connections as u64),
            limit("conns_inbound", capacity.inbound as u64),
            limit("streams_inbound", capacity.streams as u64),
            limit("memory", capacity.memory),
            limit("fd", capacity.descriptors),
        ]
        .into_iter()
        .flatten(),
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
