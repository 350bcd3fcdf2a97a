//! What happens, counted for Prometheus. What there is at one moment is read from the snapshots
//! when somebody asks (`http/exposition`).
//!
//! Names, labels and buckets are go-libp2p's where the meaning is the same, so that its boards show
//! data. Labels have few values, and none that a stranger chooses. Counting takes no lock but the
//! one of a family that is only read.

mod autonat;
mod calls;
mod control;
mod histogram;
mod holepunch;
mod identify;
mod peers;
mod queries;
mod relay_service;
mod streams;
mod swarm;
mod turns;

use std::sync::LazyLock;

use prometheus_client::{encoding::text, registry::Registry};

pub(crate) use autonat::Autonat;
pub(crate) use calls::{Call, CallOutcome, Calls, Side};
pub(crate) use control::{Control, Serving};
pub(crate) use histogram::Histogram;
pub(crate) use holepunch::{HolePunch, Punched};
pub(crate) use identify::{Identify, Push, Trigger};
pub(crate) use peers::Peers;
pub(crate) use queries::{DhtQuery, Queries};
pub(crate) use relay_service::{Asked, RelayService};
pub(crate) use streams::{Handled, Streams};
pub(crate) use swarm::{Carrier, DialFailure, PeerDial, Swarm};
pub(crate) use turns::Turns;

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) swarm: Swarm,
    pub(crate) peers: Peers,
    pub(crate) identify: Identify,
    pub(crate) autonat: Autonat,
    pub(crate) holepunch: HolePunch,
    control: Control,
    calls: Calls,
    queries: Queries,
    pub(crate) relay: RelayService,
    pub(crate) turns: Turns,
    pub(crate) streams: Streams,
    registry: Registry,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let mut registry = Registry::default();
    Metrics {
        swarm: Swarm::new(&mut registry),
        peers: Peers::new(&mut registry),
        identify: Identify::new(&mut registry),
        autonat: Autonat::new(&mut registry),
        holepunch: HolePunch::new(&mut registry),
        control: Control::new(&mut registry),
        calls: Calls::new(&mut registry),
        queries: Queries::new(&mut registry),
        relay: RelayService::new(&mut registry),
        turns: Turns::new(&mut registry),
        streams: Streams::default(),
        registry,
    }
});

/// The counters of the process.
pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    /// Appends all of them to `out`, without the end of the exposition.
    ///
    /// # Errors
    /// None: writing to a String cannot fail.
    pub(crate) fn encode(&self, out: &mut String) -> std::fmt::Result {
        text::encode_registry(out, &self.registry)
    }
}

/// The name of a direction.
pub(crate) fn direction(outbound: bool) -> &'static str {
    match outbound {
        true => "outbound",
        false => "inbound",
    }
}
