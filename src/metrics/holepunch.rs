//! Hole punching, as go-libp2p counts it.

use libp2p::Multiaddr;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::wire::carrier::{ip_version, transport_name};

/// go-libp2p's words for the two sides.
const SIDES: [&str; 2] = ["initiator", "receiver"];

/// The rounds that there may be.
const ATTEMPTS: [&str; 3] = ["1", "2", "3"];

/// What came of a punch, or of one address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Punched {
    /// There is a direct connection.
    Success,
    /// There is none.
    Failed,
    /// There is one at another address.
    Cancelled,
    /// One side has no address that may be dialed.
    NoAddress,
}

impl Punched {
    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::NoAddress => "no_suitable_address",
        }
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    side: &'static str,
    num_attempts: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AddressLabels {
    side: &'static str,
    num_attempts: &'static str,
    ipv: &'static str,
    transport: &'static str,
    outcome: &'static str,
}

/// Direct connections to peers that have called by a circuit, or were called so.
#[derive(Debug)]
pub(crate) struct HolePunch {
    direct: Family<DirectLabels, Counter>,
    outcomes: Family<Labels, Counter>,
    addresses: Family<AddressLabels, Counter>,
}

impl HolePunch {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let holepunch = Self {
            direct: Family::default(),
            outcomes: Family::default(),
            addresses: Family::default(),
        };
        // As in Go they are there from the start: what was never 0 does not increase.
        for direct in [true, false] {
            drop(holepunch.direct.get_or_create(&dialed(direct)));
        }
        for side in SIDES {
            for attempts in 1..=ATTEMPTS.len() {
                for outcome in [Punched::Success, Punched::Failed, Punched::NoAddress] {
                    let labels = labels(side, attempts, outcome);
                    drop(holepunch.outcomes.get_or_create(&labels));
                }
            }
        }
        for (side, rounds) in SIDES.into_iter().zip([ATTEMPTS.len(), 1]) {
            for (round, ipv, transport) in sockets(rounds) {
                for outcome in [Punched::Success, Punched::Failed, Punched::Cancelled] {
                    drop(holepunch.addresses.get_or_create(&AddressLabels {
                        side,
                        num_attempts: attempts(round),
                        ipv,
                        transport,
                        outcome: outcome.label(),
                    }));
                }
            }
        }
        let to = registry.sub_registry_with_prefix("libp2p_holepunch");
        to.register(
            "direct_dials",
            "Callers by circuit that were dialed where they say that they are",
            holepunch.direct.clone(),
        );
        to.register(
            "outcomes",
            "What came of hole punching",
            holepunch.outcomes.clone(),
        );
        to.register(
            "address_outcomes",
            "What came of hole punching at each address",
            holepunch.addresses.clone(),
        );
        holepunch
    }

    /// A caller was dialed where it says that it is.
    pub(crate) fn dialed(&self, success: bool) {
        self.direct.get_or_create(&dialed(success)).inc();
    }

    /// A punch has ended after so many rounds.
    pub(crate) fn ended(&self, side: &'static str, rounds: usize, outcome: Punched) {
        let labels = labels(side, rounds, outcome);
        self.outcomes.get_or_create(&labels).inc();
    }

    /// What came of an address in round `round`.
    pub(crate) fn address(
        &self,
        side: &'static str,
        round: usize,
        address: &Multiaddr,
        outcome: Punched,
    ) {
        let labels = AddressLabels {
            side,
            num_attempts: attempts(round),
            ipv: ip_version(address),
            transport: transport_name(address),
            outcome: outcome.label(),
        };
        self.addresses.get_or_create(&labels).inc();
    }
}

/// Each kind of socket in each of so many rounds.
fn sockets(rounds: usize) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let kinds = ["ip4", "ip6"]
        .into_iter()
        .flat_map(|ip| ["tcp", "quic-v1"].map(|transport| (ip, transport)));
    (1..=rounds).flat_map(move |round| kinds.clone().map(move |(ip, over)| (round, ip, over)))
}

fn dialed(success: bool) -> DirectLabels {
    let outcome = match success {
        true => Punched::Success,
        false => Punched::Failed,
    };
    DirectLabels {
        outcome: outcome.label(),
    }
}

fn labels(side: &'static str, rounds: usize, outcome: Punched) -> Labels {
    Labels {
        side,
        num_attempts: attempts(rounds),
        outcome: outcome.label(),
    }
}

fn attempts(rounds: usize) -> &'static str {
    ATTEMPTS[rounds.clamp(1, ATTEMPTS.len()) - 1]
}
