//! AutoNAT, as go-libp2p counts it.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    response_status: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabel {
    refusal_reason: &'static str,
}

/// What peers answer when they are asked to dial this node, and what they are answered.
#[derive(Debug)]
pub(crate) struct Autonat {
    received: Family<Labels, Counter>,
    sent: Family<Labels, Counter>,
    refused: Family<RefusalLabel, Counter>,
    confidence: Gauge<i64, AtomicI64>,
}

impl Autonat {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let autonat = Self {
            received: Family::default(),
            sent: Family::default(),
            refused: Family::default(),
            confidence: Gauge::default(),
        };
        let to = registry.sub_registry_with_prefix("libp2p_autonat");
        to.register(
            "received_dial_response",
            "Answers of peers that were asked to dial this node",
            autonat.received.clone(),
        );
        to.register(
            "outgoing_dial_response",
            "Answers to peers that have asked to be dialed",
            autonat.sent.clone(),
        );
        to.register(
            "outgoing_dial_refused",
            "Why peers that have asked to be dialed were not",
            autonat.refused.clone(),
        );
        to.register(
            "reachability_status_confidence",
            "How many answers in a row have said the same, from 0 to 3",
            autonat.confidence.clone(),
        );
        autonat
    }

    /// A peer has answered; `status` in go-libp2p's words: `ok`, `dial error`, `dial refused`,
    /// `bad request`, `internal error` or `unknown`.
    pub(crate) fn received(&self, response_status: &'static str) {
        let labels = Labels { response_status };
        self.received.get_or_create(&labels).inc();
    }

    /// A peer is answered; see [`Autonat::received`].
    pub(crate) fn sent(&self, response_status: &'static str) {
        let labels = Labels { response_status };
        self.sent.get_or_create(&labels).inc();
    }

    /// A peer is not dialed; `refusal_reason` in go-libp2p's words: `rate limited` or
    /// `dial blocked`.
    pub(crate) fn refused(&self, refusal_reason: &'static str) {
        let labels = RefusalLabel { refusal_reason };
        self.refused.get_or_create(&labels).inc();
    }

    /// So many answers in a row say the same.
    pub(crate) fn set_confidence(&self, confidence: u8) {
        self.confidence.set(confidence.into());
    }
}
