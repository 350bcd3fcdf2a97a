//! What there is, in the text format of OpenMetrics, which Prometheus reads.
//!
//! Names and labels are go-libp2p's where the meaning is the same. What rp2pd does not know is left
//! out: a board then says that there are no data, which is true.

mod autorelay;
mod own;
mod rcmgr;
mod services;

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::process;
use crate::{
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
    rcmgr::register(&mut registry, &now);
    identify(&mut registry, &now);
    own::register(&mut registry, &now, ready);
    if let Some(dht) = &now.dht {
        services::dht(&mut registry, dht);
    }
    if let Some(pubsub) = &now.pubsub {
        services::pubsub(&mut registry, pubsub);
    }
    services::relay(&mut registry, now.relay.as_ref());
    services::tunnels(&mut registry, &now.tunnels);
    if let Some(now) = &now.autorelay {
        autorelay::register(&mut registry, now);
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
