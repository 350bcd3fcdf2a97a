//! Collects the figures of a run and writes them as a table, as JSON and as plots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::Args;
use crate::binary::Side;
use crate::plot;
use crate::row::Row;
use crate::sample::{Curve, Outcome, Summary, number};

/// What a run has found.
#[derive(Debug)]
pub(crate) struct Report {
    names: [String; 2],
    rounds: u32,
    quick: bool,
    /// Only the first daemon is measured.
    alone: bool,
    rows: Vec<Row>,
    curves: BTreeMap<&'static str, [Vec<Curve>; 2]>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(sides: &[Side; 2], args: &Args) -> Self {
        Self {
            names: sides.each_ref().map(|side| side.name.clone()),
            rounds: args.rounds(),
            quick: args.quick,
            alone: args.alone,
            rows: Vec::new(),
            curves: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Files what one round of `case` yielded on `side`, while other processes took the share
    /// `others` of the processors.
    pub(crate) fn add(&mut self, case: &str, side: usize, outcome: Result<Outcome>, others: f64) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let name = &self.names[side];
                return self.failures.push(format!("{case}, {name}: {error:#}"));
            }
        };
        for sample in outcome.samples {
            let known = |row: &Row| row.kind.metric == sample.metric;
            let index = self.rows.iter().position(known).unwrap_or_else(|| {
                self.rows.push(Row {
                    case: case.to_owned(),
                    kind: sample.clone(),
                    values: [Vec::new(), Vec::new()],
                    others: [Vec::new(), Vec::new()],
                });
                self.rows.len() - 1
            });
            self.rows[index].values[side].push(sample.value);
            self.rows[index].others[side].push(others);
        }
        for curve in outcome.curves {
            self.curves.entry(curve.name).or_default()[side].push(curve);
        }
    }

    /// The result as an aligned Markdown table.
    pub(crate) fn table(&self) -> String {
        let [a, b] = &self.names;
        let mut lines = vec![[
            "figure".to_owned(),
            "unit".to_owned(),
            format!("{a} median (min..max)"),
            format!("{b} median (min..max)"),
            format!("{a} better by (range)"),
            "goal".to_owned(),
        ]];
        lines.extend(self.rows.iter().map(|row| {
            let missing = |side| {
                if side == 1 && self.alone {
                    "–"
                } else {
                    "failed"
                }
            };
            let side = |side| row.summary(side).map_or(missing(side).to_owned(), spread);
            let better = row.ratio().map_or("–".to_owned(), |ratio| {
                format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max)
            });
            let goal = row.ratio().map_or("–".to_owned(), |ratio| {
                let met = if ratio.median >= row.kind.goal {
                    "met"
                } else {
                    "missed"
                };
                format!("{} {met}", row.kind.goal)
            });
            let (metric, unit) = (row.kind.metric.clone(), row.kind.unit.to_owned());
            [metric, unit, side(0), side(1), better, goal]
        }));
        let mut text = align(&lines);
        let others = |side: usize| {
            let shares = self.rows.iter().flat_map(|row| &row.others[side]);
            let percent: Vec<f64> = shares.map(|share| share * 100.0).collect();
            Summary::of(&percent).map_or("–".to_owned(), spread)
        };
        let _ = writeln!(
            text,
            "\nOther processes took of the processors, in percent: {} while {a} ran, {} while {b} ran.",
            others(0),
            others(1)
        );
        for failure in &self.failures {
            let _ = writeln!(text, "\nFailed: {failure}");
        }
        text
    }

    /// Writes everything into `home` and names the files.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write(&self, home: &Path) -> Result<Vec<String>> {
        std::fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
        let mut files = vec![
            ("table.md".to_owned(), self.table()),
            ("results.json".to_owned(), format!("{:#}", self.json())),
            (
                "ratios.svg".to_owned(),
                plot::ratios(&self.names, &self.rows),
            ),
        ];
        for (name, curves) in &self.curves {
            files.push((format!("{name}.svg"), plot::curves(&self.names, curves)));
        }
        let mut written = Vec::new();
        for (name, text) in files {
            let path = home.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            written.push(path.display().to_string());
        }
        Ok(written)
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let ratio = row.ratio();
                json!({
                    "measurement": row.case,
                    "figure": row.kind.metric,
                    "unit": row.kind.unit,
                    "better": format!("{:?}", row.kind.better).to_lowercase(),
                    "a": row.values[0],
                    "b": row.values[1],
                    "others_a": row.others[0],
                    "others_b": row.others[1],
                    "ratio": ratio.map(|ratio| ratio.median),
                    "ratio_range": ratio.map(|ratio| [ratio.min, ratio.max]),
                    "goal": ratio.map(|_| row.kind.goal),
                })
            })
            .collect();
        let points = |curves: &[Curve]| -> Vec<Vec<[f64; 2]>> {
            let one = |curve: &Curve| curve.points.iter().map(|p| [p.x, p.y]).collect();
            curves.iter().map(one).collect()
        };
        let curves: BTreeMap<_, Value> = self
            .curves
            .iter()
            .map(|(name, [a, b])| (*name, json!({ "a": points(a), "b": points(b) })))
            .collect();
        json!({
            "a": self.names[0],
            "b": self.names[1],
            "rounds": self.rounds,
            "quick": self.quick,
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "figures": rows,
            "curves": curves,
            "failures": self.failures,
        })
    }
}

fn spread(summary: Summary) -> String {
    let [median, min, max] = [summary.median, summary.min, summary.max].map(number);
    format!("{median} ({min}..{max})")
}

fn align(lines: &[[String; 6]]) -> String {
    let width = |column: usize| -> usize {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}
