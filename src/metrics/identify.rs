//! identify, as go-libp2p counts it.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Histogram, direction};

const SIZES: &[u64] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 25, 30, 35, 40, 45, 50,
    55, 60, 65, 70, 75, 80, 85, 90, 95, 100,
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Direction {
    dir: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TriggerLabel {
    trigger: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SupportLabel {
    support: &'static str,
}

/// What has changed, so that peers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Protocols,
    Addresses,
}

/// Whether a peer takes pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    Supported,
    NotSupported,
    Unknown,
}

/// The messages of identify.
#[derive(Debug)]
pub(crate) struct Identify {
    messages: Family<Direction, Counter>,
    pushes: Family<Direction, Counter>,
    triggers: Family<TriggerLabel, Counter>,
    support: Family<SupportLabel, Counter>,
    protocols: Histogram,
    addresses: Histogram,
}

impl Identify {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let identify = Self {
            messages: Family::default(),
            pushes: Family::default(),
            triggers: Family::default(),
            support: Family::default(),
            protocols: Histogram::new(SIZES),
            addresses: Histogram::new(SIZES),
        };
        let to = registry.sub_registry_with_prefix("libp2p_identify");
        to.register(
            "identify",
            "Messages; inbound are those that this node has sent, as peers have asked for them",
            identify.messages.clone(),
        );
        to.register("identify_push", "Pushed messages", identify.pushes.clone());
        to.register(
            "identify_pushes_triggered",
            "Changes that are told to peers",
            identify.triggers.clone(),
        );
        to.register(
            "conn_push_support",
            "Connections by whether the peer takes pushes",
            identify.support.clone(),
        );
        to.register(
            "protocols_received",
            "Protocols in the message of a peer",
            identify.protocols.clone(),
        );
        to.register(
            "addrs_received",
            "Addresses in the message of a peer",
            identify.addresses.clone(),
        );
        identify
    }

    /// A peer has asked for this node's message and got it.
    pub(crate) fn sent(&self) {
        let dir = direction(false);
        self.messages.get_or_create(&Direction { dir }).inc();
    }

    /// This node has pushed its message to a peer.
    pub(crate) fn pushed(&self) {
        let dir = direction(true);
        self.pushes.get_or_create(&Direction { dir }).inc();
    }

    /// A peer's message has come, as an answer or as a push.
    pub(crate) fn received(&self, is_push: bool, protocols: usize, addresses: usize) {
        let (family, outbound) = match is_push {
            true => (&self.pushes, false),
            false => (&self.messages, true),
        };
        let dir = direction(outbound);
        family.get_or_create(&Direction { dir }).inc();
        self.protocols.observe(protocols as u64);
        self.addresses.observe(addresses as u64);
    }

    pub(crate) fn triggered(&self, trigger: Trigger) {
        let trigger = match trigger {
            Trigger::Protocols => "protocols_updated",
            Trigger::Addresses => "addresses_updated",
        };
        self.triggers.get_or_create(&TriggerLabel { trigger }).inc();
    }

    pub(crate) fn push_support(&self, push: Push) {
        let support = match push {
            Push::Supported => "supported",
            Push::NotSupported => "not supported",
            Push::Unknown => "unknown",
        };
        self.support.get_or_create(&SupportLabel { support }).inc();
    }
}
