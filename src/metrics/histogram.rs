//! A histogram for paths that must not take a lock, which the library's does.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Whole numbers, counted by bounds that are fixed.
#[derive(Clone)]
pub(crate) struct Histogram(Arc<Counts>);

struct Counts {
    /// Parts of the unit in which numbers are told.
    parts: f64,
    bounds: &'static [u64],
    /// Numbers up to each bound and above the one before; then those above all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.0.bounds).finish()
    }
}

impl Histogram {
    /// `bounds` grow.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self::in_parts(1.0, bounds)
    }

    /// Numbers are microseconds, and are told as seconds.
    pub(crate) fn of_micros(bounds: &'static [u64]) -> Self {
        Self::in_parts(1e6, bounds)
    }

    /// Numbers are nanoseconds, and are told as seconds.
    pub(crate) fn of_nanos(bounds: &'static [u64]) -> Self {
        Self::in_parts(1e9, bounds)
    }

    fn in_parts(parts: f64, bounds: &'static [u64]) -> Self {
        Self(Arc::new(Counts {
            parts,
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }))
    }

    pub(crate) fn observe(&self, number: u64) {
        let index = self.0.bounds.partition_point(|bound| *bound < number);
        if let Some(count) = self.0.counts.get(index) {
            count.fetch_add(1, Relaxed);
        }
        self.0.sum.fetch_add(number, Relaxed);
    }

    fn buckets(&self) -> Vec<(f64, u64)> {
        let parts = self.0.parts;
        let bounds = self.0.bounds.iter().map(|bound| *bound as f64 / parts);
        let counts = self.0.counts.iter().map(|count| count.load(Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets = self.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.sum.load(Relaxed) as f64 / self.0.parts;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn microseconds_are_told_as_seconds() {
        let histogram = Histogram::of_micros(&[10, 500_000]);
        histogram.observe(250_000);
        assert_eq!(histogram.buckets()[..2], [(0.00001, 0), (0.5, 1)]);
    }

    #[test]
    fn numbers_count_up_to_their_bound() {
        let histogram = Histogram::new(&[1, 4]);
        for number in [0, 1, 2, 4, 5, 1000] {
            histogram.observe(number);
        }
        let mut registry = Registry::default();
        registry.register("numbers", "Numbers", histogram);
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("text");
        for line in [
            "numbers_sum 1012.0",
            "numbers_count 6",
            "numbers_bucket{le=\"1.0\"} 2",
            "numbers_bucket{le=\"4.0\"} 4",
            "numbers_bucket{le=\"+Inf\"} 6",
        ] {
            assert!(out.lines().any(|told| told == line), "{line}: {out}");
        }
    }
}
