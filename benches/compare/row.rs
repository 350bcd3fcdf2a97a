//! The rounds of one figure, as the tables and plots show them.

use crate::sample::{Sample, Summary, ratio};

/// All rounds of one figure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) kind: Sample,
    /// Values of either side, one per round that succeeded.
    pub(crate) values: [Vec<f64>; 2],
    /// Share of the processors that other processes took in each of these rounds.
    pub(crate) others: [Vec<f64>; 2],
}

impl Row {
    pub(crate) fn summary(&self, side: usize) -> Option<Summary> {
        Summary::of(&self.values[side])
    }

    /// Ratio of the medians, with the range of the ratios of single rounds.
    pub(crate) fn ratio(&self) -> Option<Summary> {
        let better = self.kind.better;
        let rounds: Vec<f64> = self.values[0]
            .iter()
            .zip(&self.values[1])
            .filter_map(|(&a, &b)| ratio(better, a, b))
            .collect();
        let range = Summary::of(&rounds)?;
        let median = ratio(better, self.summary(0)?.median, self.summary(1)?.median)?;
        Some(Summary { median, ..range })
    }
}
