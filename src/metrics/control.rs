//! Requests of clients.

use std::time::Instant;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Verb {
    verb: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    verb: &'static str,
    outcome: &'static str,
}

/// Requests of clients, by their verbs.
#[derive(Debug)]
pub(crate) struct Control {
    requests: Family<Outcome, Counter>,
    seconds: Family<Verb, Histogram, fn() -> Histogram>,
}

fn times() -> Histogram {
    Histogram::new([
        0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0,
    ])
}

impl Control {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let control = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(times),
        };
        let to = registry.sub_registry_with_prefix("rp2pd_control");
        to.register(
            "requests",
            "Requests of clients by verb; an error is an answer that says so, or none at all",
            control.requests.clone(),
        );
        to.register(
            "request_seconds",
            "Time from a request to its answer",
            control.seconds.clone(),
        );
        control
    }
}

/// A request that is being served. It counts as an error unless it [succeeds](Self::succeed).
#[derive(Debug)]
pub(crate) struct Serving {
    verb: &'static str,
    begun: Instant,
    succeeded: bool,
}

impl Serving {
    pub(crate) fn begin(verb: &'static str) -> Self {
        Self {
            verb,
            begun: Instant::now(),
            succeeded: false,
        }
    }

    pub(crate) fn succeed(&mut self) {
        self.succeeded = true;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let control = &super::metrics().control;
        let labels = Outcome {
            verb: self.verb,
            outcome: if self.succeeded { "ok" } else { "error" },
        };
        control.requests.get_or_create(&labels).inc();
        let seconds = control.seconds.get_or_create(&Verb { verb: self.verb });
        seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}
