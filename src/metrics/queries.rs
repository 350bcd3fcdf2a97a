//! Queries of clients to the DHT.

use std::time::Instant;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    outcome: &'static str,
}

/// How long queries took, by their verbs.
#[derive(Debug)]
pub(crate) struct Queries {
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
}

/// From what this node knows itself to the timeout that a client gets.
fn times() -> Histogram {
    Histogram::new([
        0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ])
}

impl Queries {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let queries = Self {
            seconds: Family::new_with_constructor(times),
        };
        registry.sub_registry_with_prefix("rp2pd_dht").register(
            "query_seconds",
            "Time of the queries of clients; abandoned are those that nobody waited for any more",
            queries.seconds.clone(),
        );
        queries
    }
}

/// A query under way. It counts as abandoned unless it [ends](Self::end).
#[derive(Debug)]
pub(crate) struct DhtQuery {
    verb: &'static str,
    begun: Instant,
    outcome: &'static str,
}

impl DhtQuery {
    pub(crate) fn begin(verb: &'static str) -> Self {
        Self {
            verb,
            begun: Instant::now(),
            outcome: "abandoned",
        }
    }

    /// The client has its answer.
    pub(crate) fn end(&mut self, is_success: bool) {
        self.outcome = match is_success {
            true => "ok",
            false => "error",
        };
    }
}

impl Drop for DhtQuery {
    fn drop(&mut self) {
        let labels = Labels {
            verb: self.verb,
            outcome: self.outcome,
        };
        let seconds = &super::metrics().queries.seconds;
        let taken = self.begun.elapsed().as_secs_f64();
        seconds.get_or_create(&labels).observe(taken);
    }
}
