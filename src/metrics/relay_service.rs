//! The relay service, as go-libp2p counts it.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What a peer asks a relay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Reservation,
    Circuit,
}

/// What peers ask of this relay, and what they get.
#[derive(Debug)]
pub(crate) struct RelayService {
    /// Of reservations, then of circuits.
    answers: [Family<StatusLabel, Counter>; 2],
    rejections: [Family<ReasonLabel, Counter>; 2],
    /// New reservations, and those that were there and have been renewed.
    opened: Counter,
    renewed: Counter,
    durations: Histogram,
}

/// Prometheus' usual buckets, which go-libp2p takes.
fn durations() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl RelayService {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let relay = Self {
            answers: Default::default(),
            rejections: Default::default(),
            opened: Counter::default(),
            renewed: Counter::default(),
            durations: durations(),
        };
        let to = registry.sub_registry_with_prefix("libp2p_relaysvc");
        let [reservations, circuits] = relay.answers.clone();
        to.register(
            "reservation_request_response_status",
            "Answers to peers that want a reservation",
            reservations,
        );
        to.register(
            "connection_request_response_status",
            "Answers to peers that want a circuit",
            circuits,
        );
        let [reservations, circuits] = relay.rejections.clone();
        to.register(
            "reservation_rejections",
            "Why peers got no reservation",
            reservations,
        );
        to.register(
            "connection_rejections",
            "Why peers got no circuit",
            circuits,
        );
        to.register(
            "connection_duration_seconds",
            "Life of circuits, told at their end",
            relay.durations.clone(),
        );
        relay
    }

    /// A peer has a reservation, which it had before or not.
    pub(crate) fn reserved(&self, is_renewal: bool) {
        match is_renewal {
            true => self.renewed.inc(),
            false => self.opened.inc(),
        };
    }

    /// Reservations so far: new ones, and renewals.
    pub(crate) fn reservations(&self) -> (u64, u64) {
        (self.opened.get(), self.renewed.get())
    }

    /// A circuit has ended.
    pub(crate) fn ended(&self, life: Duration) {
        self.durations.observe(life.as_secs_f64());
    }

    /// A peer is answered: with `ok`, `rejected`, `error` or `unknown`, and if it is rejected with
    /// go-libp2p's word for why.
    pub(crate) fn answered(
        &self,
        asked: Asked,
        status: &'static str,
        reason: Option<&'static str>,
    ) {
        let answers = self.answers.get(asked as usize);
        if let Some(answers) = answers {
            answers.get_or_create(&StatusLabel { status }).inc();
        }
        let rejections = self.rejections.get(asked as usize);
        if let (Some(reason), Some(rejections)) = (reason, rejections) {
            rejections.get_or_create(&ReasonLabel { reason }).inc();
        }
    }
}
