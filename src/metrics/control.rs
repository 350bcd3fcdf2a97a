//! Requests of clients.

use std::{cell::RefCell, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Histogram;

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

/// Nanoseconds.
const TIMES: &[u64] = &[
    100_000,
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    15_000_000_000,
    60_000_000_000,
];

/// What is counted of one verb, as far as it has happened.
#[derive(Debug)]
struct Counted {
    verb: &'static str,
    seconds: Histogram,
    ok: Option<Counter>,
    error: Option<Counter>,
}

thread_local! {
    /// The families have locks that all threads share. Each looks into them once for a verb, of
    /// which there are few.
    static KNOWN: RefCell<Vec<Counted>> = const { RefCell::new(Vec::new()) };
}

impl Control {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let control = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::of_nanos(TIMES)),
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

    fn count(&self, verb: &'static str, succeeded: bool, nanos: u64) {
        KNOWN.with_borrow_mut(|known| {
            let at = known.iter().position(|known| known.verb == verb);
            let at = at.unwrap_or_else(|| {
                known.push(Counted {
                    verb,
                    seconds: self.seconds.get_or_create(&Verb { verb }).clone(),
                    ok: None,
                    error: None,
                });
                known.len() - 1
            });
            let Some(counted) = known.get_mut(at) else {
                return;
            };
            let (counter, outcome) = match succeeded {
                true => (&mut counted.ok, "ok"),
                false => (&mut counted.error, "error"),
            };
            let labels = Outcome { verb, outcome };
            counter
                .get_or_insert_with(|| self.requests.get_or_create(&labels).clone())
                .inc();
            counted.seconds.observe(nanos);
        });
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
        let nanos = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        super::metrics()
            .control
            .count(self.verb, self.succeeded, nanos);
    }
}
