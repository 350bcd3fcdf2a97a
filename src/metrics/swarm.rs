//! Connections and dials, as go-libp2p counts them.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// What tells connections apart. go-libp2p's labels.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConnectionLabels {
    dir: &'static str,
    transport: &'static str,
    security: &'static str,
    muxer: &'static str,
    early_muxer: &'static str,
    ip_version: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandshakeLabels {
    transport: &'static str,
    security: &'static str,
    muxer: &'static str,
    early_muxer: &'static str,
    ip_version: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeyLabels {
    dir: &'static str,
    key_type: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    transport: &'static str,
    error: &'static str,
    ip_version: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DialLabels {
    outcome: &'static str,
    num_dials: &'static str,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carrier {
    pub(crate) outbound: bool,
    /// `tcp`, `ws`, `wss`, `quic-v1` or `p2p-circuit`.
    pub(crate) transport: &'static str,
    pub(crate) security: &'static str,
    pub(crate) muxer: &'static str,
    /// `ip4`, `ip6` or `unknown`.
    pub(crate) ip_version: &'static str,
}

/// Why one address could not be dialed, in go-libp2p's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialFailure {
    Timeout,
    Refused,
    Superseded,
    Other,
}

/// Connections and dials.
#[derive(Debug)]
pub(crate) struct Swarm {
    opened: Family<ConnectionLabels, Counter>,
    closed: Family<ConnectionLabels, Counter>,
    duration: Family<ConnectionLabels, Histogram, fn() -> Histogram>,
    handshake: Family<HandshakeLabels, Histogram, fn() -> Histogram>,
    keys: Family<KeyLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    dials: Family<DialLabels, Counter>,
    latency: Family<DialLabels, Histogram, fn() -> Histogram>,
    /// Inbound and outbound connections that are not upgraded yet.
    pending: [AtomicU32; 2],
}

/// How many addresses were tried.
const NUM_DIALS: [&str; 7] = ["0", "1", "2", "3", "4", "5", ">=6"];

fn durations() -> Histogram {
    Histogram::new(exponential_buckets(1.0 / 16.0, 2.0, 25))
}

fn handshakes() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 1.3, 35))
}

fn latencies() -> Histogram {
    Histogram::new([0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0])
}

impl Carrier {
    fn labels(self) -> ConnectionLabels {
        ConnectionLabels {
            dir: super::direction(self.outbound),
            transport: self.go_transport(),
            security: self.security,
            muxer: self.muxer,
            early_muxer: "false",
            ip_version: self.ip_version,
        }
    }

    /// Go says `tcp` of websockets, except for dials.
    fn go_transport(self) -> &'static str {
        match self.transport {
            "ws" | "wss" => "tcp",
            other => other,
        }
    }
}

impl Swarm {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let swarm = Self {
            opened: Family::default(),
            closed: Family::default(),
            duration: Family::new_with_constructor(durations),
            handshake: Family::new_with_constructor(handshakes),
            keys: Family::default(),
            errors: Family::default(),
            dials: Family::default(),
            latency: Family::new_with_constructor(latencies),
            pending: Default::default(),
        };
        // A board asks for each of them.
        for outcome in ["success", "failed"] {
            for num_dials in NUM_DIALS {
                let labels = DialLabels { outcome, num_dials };
                let _ = swarm.dials.get_or_create(&labels);
            }
        }
        let to = registry.sub_registry_with_prefix("libp2p_swarm");
        to.register(
            "connections_opened",
            "Connections opened",
            swarm.opened.clone(),
        );
        to.register(
            "connections_closed",
            "Connections closed",
            swarm.closed.clone(),
        );
        to.register(
            "connection_duration_seconds",
            "Life of connections, told at their end",
            swarm.duration.clone(),
        );
        to.register(
            "handshake_latency_seconds",
            "Time of the security and multiplexer upgrades",
            swarm.handshake.clone(),
        );
        to.register(
            "key_types",
            "Connections by the type of the peer's key",
            swarm.keys.clone(),
        );
        to.register(
            "dial_errors",
            "Addresses that could not be dialed",
            swarm.errors.clone(),
        );
        to.register(
            "dials_per_peer",
            "Dials by the addresses tried",
            swarm.dials.clone(),
        );
        to.register(
            "dial_latency_seconds",
            "Time of whole dials",
            swarm.latency.clone(),
        );
        swarm
    }

    /// So many connections of each direction are not upgraded yet.
    pub(crate) fn set_pending(&self, inbound: u32, outbound: u32) {
        self.pending[0].store(inbound, Relaxed);
        self.pending[1].store(outbound, Relaxed);
    }

    pub(crate) fn pending(&self) -> (u32, u32) {
        let [inbound, outbound] = &self.pending;
        (inbound.load(Relaxed), outbound.load(Relaxed))
    }

    pub(crate) fn opened(&self, carrier: Carrier) {
        let labels = carrier.labels();
        self.opened.get_or_create(&labels).inc();
        // A board subtracts the two, and a series that is missing has no value.
        let _ = self.closed.get_or_create(&labels);
    }

    pub(crate) fn closed(&self, carrier: Carrier, life: Duration) {
        let labels = carrier.labels();
        self.closed.get_or_create(&labels).inc();
        let duration = self.duration.get_or_create(&labels);
        duration.observe(life.as_secs_f64());
    }

    pub(crate) fn upgraded(&self, carrier: Carrier, time: Duration) {
        let labels = HandshakeLabels {
            transport: carrier.go_transport(),
            security: carrier.security,
            muxer: carrier.muxer,
            early_muxer: "false",
            ip_version: carrier.ip_version,
        };
        let handshake = self.handshake.get_or_create(&labels);
        handshake.observe(time.as_secs_f64());
    }

    /// The key of a peer is known; `key_type` as Go names it.
    pub(crate) fn key(&self, outbound: bool, key_type: &'static str) {
        let labels = KeyLabels {
            dir: super::direction(outbound),
            key_type,
        };
        self.keys.get_or_create(&labels).inc();
    }

    pub(crate) fn dial_failed(
        &self,
        transport: &'static str,
        ip_version: &'static str,
        error: DialFailure,
    ) {
        let error = match error {
            DialFailure::Timeout => "timeout",
            DialFailure::Refused => "connection refused",
            DialFailure::Superseded => "canceled: concurrent dial successful",
            DialFailure::Other => "other",
        };
        let labels = ErrorLabels {
            transport,
            error,
            ip_version,
        };
        self.errors.get_or_create(&labels).inc();
    }

    fn dialed(&self, dial: &PeerDial) {
        let labels = DialLabels {
            outcome: if dial.succeeded { "success" } else { "failed" },
            num_dials: NUM_DIALS[dial.tried.min(NUM_DIALS.len() - 1)],
        };
        self.dials.get_or_create(&labels).inc();
        let latency = self.latency.get_or_create(&labels);
        latency.observe(dial.begun.elapsed().as_secs_f64());
    }
}

/// One dial of a peer, counted when dropped.
#[derive(Debug)]
pub(crate) struct PeerDial {
    begun: Instant,
    /// Addresses dialed.
    pub(crate) tried: usize,
    /// Whether there is a connection.
    pub(crate) succeeded: bool,
}

impl PeerDial {
    pub(crate) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            tried: 0,
            succeeded: false,
        }
    }
}

impl Drop for PeerDial {
    fn drop(&mut self) {
        super::metrics().swarm.dialed(self);
    }
}
