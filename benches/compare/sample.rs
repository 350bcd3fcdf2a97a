//! Figures and what to make of several of them.

/// Which way a figure is wished to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// A figure to look at, without a ratio: it may be zero or negative.
    Neither,
}

/// One measured figure.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Times better than the second daemon that the first one is meant to be.
    pub(crate) goal: f64,
    pub(crate) value: f64,
}

/// A point of a cost curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// A cost curve: its labels and its points.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) points: Vec<Point>,
}

/// What one run of one measurement on one daemon yields.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    pub(crate) curves: Vec<Curve>,
}

impl Outcome {
    /// Adds a figure that should be high.
    pub(crate) fn high(&mut self, metric: impl Into<String>, unit: &'static str, value: f64) {
        self.push(metric.into(), unit, Better::Higher, value);
    }

    /// Adds a figure that should be low.
    pub(crate) fn low(&mut self, metric: impl Into<String>, unit: &'static str, value: f64) {
        self.push(metric.into(), unit, Better::Lower, value);
    }

    /// Adds a figure without a ratio.
    pub(crate) fn plain(&mut self, metric: impl Into<String>, unit: &'static str, value: f64) {
        self.push(metric.into(), unit, Better::Neither, value);
    }

    /// Sets the goal of the figure added last; 1 (not worse) otherwise.
    pub(crate) fn goal(&mut self, goal: f64) {
        if let Some(sample) = self.samples.last_mut() {
            sample.goal = goal;
        }
    }

    fn push(&mut self, metric: String, unit: &'static str, better: Better, value: f64) {
        self.samples.push(Sample {
            metric,
            unit,
            better,
            goal: 1.0,
            value,
        });
    }
}

/// Median and range of some values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Summary of `values`, none if there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        Some(Self {
            median: (sorted[lower] + sorted[upper]) / 2.0,
            min,
            max,
        })
    }
}

/// How many times better `a` is than `b`.
pub(crate) fn ratio(better: Better, a: f64, b: f64) -> Option<f64> {
    let (over, under) = match better {
        Better::Higher => (a, b),
        Better::Lower => (b, a),
        Better::Neither => return None,
    };
    (over > 0.0 && under > 0.0).then(|| over / under)
}

/// A figure with about three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
