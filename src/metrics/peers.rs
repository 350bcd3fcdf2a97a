//! How many connections and streams one peer has, told at each change as go-libp2p does: the new
//! number in one histogram, the old one in the other. A board subtracts them.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::family::{Family, MetricConstructor},
    registry::Registry,
};

use super::{Histogram, direction};

const BOUNDS: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 32, 64, 128, 256];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    dir: &'static str,
}

#[derive(Debug, Clone)]
struct Bounds;

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BOUNDS)
    }
}

/// The new and the old numbers of both directions.
#[derive(Debug)]
struct Pair {
    new: [Histogram; 2],
    old: [Histogram; 2],
}

impl Pair {
    fn new(registry: &mut Registry, names: [&'static str; 2], help: [&'static str; 2]) -> Self {
        let [new, old] = [0, 1].map(|which| {
            let family: Family<Labels, Histogram, Bounds> = Family::new_with_constructor(Bounds);
            let to = registry.sub_registry_with_prefix("libp2p_rcmgr");
            to.register(names[which], help[which], family.clone());
            // Kept, so that counting does not look for them.
            [false, true].map(|outbound| {
                let dir = direction(outbound);
                family.get_or_create(&Labels { dir }).clone()
            })
        });
        Self { new, old }
    }

    fn changed(&self, outbound: bool, old: usize, new: usize) {
        let [new_of, old_of] = [&self.new, &self.old].map(|both| &both[usize::from(outbound)]);
        // Go leaves out the peers that have none.
        if old > 0 {
            old_of.observe(old as u64);
        }
        if new > 0 {
            new_of.observe(new as u64);
        }
    }
}

/// Connections and streams of single peers.
#[derive(Debug)]
pub(crate) struct Peers {
    connections: Pair,
    streams: Pair,
}

impl Peers {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            connections: Pair::new(
                registry,
                ["peer_connections", "previous_peer_connections"],
                [
                    "Connections of a peer after a change",
                    "Connections of a peer before a change",
                ],
            ),
            streams: Pair::new(
                registry,
                ["peer_streams", "previous_peer_streams"],
                [
                    "Streams on a peer's connection after a change",
                    "Streams on a peer's connection before a change",
                ],
            ),
        }
    }

    /// A peer has `new` connections instead of `old`.
    pub(crate) fn connections(&self, outbound: bool, old: usize, new: usize) {
        self.connections.changed(outbound, old, new);
    }

    /// A connection has `new` streams instead of `old`.
    pub(crate) fn streams(&self, outbound: bool, old: usize, new: usize) {
        self.streams.changed(outbound, old, new);
    }
}
