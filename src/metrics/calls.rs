//! Calls between clients of two daemons.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SideLabel {
    side: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    side: &'static str,
    outcome: &'static str,
}

/// Who the client of this daemon is in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Callee,
}

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// With an answer, be it that the callee's own code has failed.
    Ok,
    /// Without one.
    Error,
    /// The caller has given up.
    Cancelled,
}

const SIDES: [&str; 2] = ["caller", "callee"];
const OUTCOMES: [&str; 3] = ["ok", "error", "cancelled"];

/// Calls by their side and outcome. The counters are kept beside their families, so that counting
/// takes no lock.
#[derive(Debug)]
pub(crate) struct Calls {
    in_flight: [Gauge<i64, AtomicI64>; 2],
    ended: [[Counter; 3]; 2],
}

impl Calls {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let in_flight: Family<SideLabel, Gauge<i64, AtomicI64>> = Family::default();
        let ended: Family<Labels, Counter> = Family::default();
        let to = registry.sub_registry_with_prefix("rp2pd");
        to.register("calls_in_flight", "Calls under way", in_flight.clone());
        to.register(
            "calls",
            "Calls that have ended; an error is one without an answer",
            ended.clone(),
        );
        Self {
            in_flight: SIDES.map(|side| in_flight.get_or_create(&SideLabel { side }).clone()),
            ended: SIDES.map(|side| {
                OUTCOMES.map(|outcome| ended.get_or_create(&Labels { side, outcome }).clone())
            }),
        }
    }
}

/// A call under way. It counts as an error unless it ends otherwise.
#[derive(Debug)]
pub(crate) struct Call {
    side: Side,
    outcome: CallOutcome,
}

impl Call {
    pub(crate) fn begin(side: Side) -> Self {
        if let Some(gauge) = super::metrics().calls.in_flight.get(side as usize) {
            gauge.inner().fetch_add(1, Relaxed);
        }
        Self {
            side,
            outcome: CallOutcome::Error,
        }
    }

    pub(crate) fn end(&mut self, outcome: CallOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let calls = &super::metrics().calls;
        let side = self.side as usize;
        if let Some(gauge) = calls.in_flight.get(side) {
            gauge.inner().fetch_sub(1, Relaxed);
        }
        let ended = calls.ended.get(side);
        if let Some(counter) = ended.and_then(|side| side.get(self.outcome as usize)) {
            counter.inc();
        }
    }
}
