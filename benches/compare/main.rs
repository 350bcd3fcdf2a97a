//! Runs two libp2p daemons side by side and compares them.
//!
//! Measurement by measurement, round by round, first one daemon and then the other, so
//! that whatever else the machine does falls on both. `benches/README.md` has the method.

mod args;
mod binary;
mod calls;
mod cases;
mod client;
mod daemon;
mod handler;
mod load;
mod plot;
mod process;
mod quiet;
mod report;
mod row;
mod sample;

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Parser;

use crate::args::Args;
use crate::cases::{Case, Setup};
use crate::quiet::Others;
use crate::report::Report;

fn main() -> Result<()> {
    // `cargo test --benches` runs this program too, without `--bench`: a comparison takes
    // minutes and has nothing to assert.
    if !std::env::args().any(|arg| arg == "--bench") {
        return say("compare: nothing to test; run it with `cargo bench --bench compare`");
    }
    let args = Args::parse();
    let cases: Vec<Case> = cases::all(args.quick)
        .into_iter()
        .filter(|case| args.wants(&case.name))
        .collect();
    if args.list {
        return cases
            .iter()
            .try_for_each(|case| say(&format!("{:<26}{}", case.name, case.about)));
    }
    anyhow::ensure!(!cases.is_empty(), "no measurement matches --only");
    let limit = rlimit::increase_nofile_limit(u64::MAX).context("raise the open file limit")?;
    let sides = args.sides()?;
    let setup = Setup::new(&args, &sides, limit)?;
    let mut report = Report::new(&sides, &args);
    let mut written = Vec::new();
    for case in &cases {
        for round in 1..=args.rounds() {
            let measured = if args.alone { 1 } else { sides.len() };
            for (index, side) in sides.iter().enumerate().take(measured) {
                note(&format!(
                    "{} {round}/{} {}",
                    case.name,
                    args.rounds(),
                    side.name
                ))?;
                quiet::wait(args.calm())?;
                let others = Others::watch()?;
                let outcome = (case.run)(&setup, side);
                if let Err(error) = &outcome {
                    note(&format!("  failed: {error:#}"))?;
                }
                report.add(&case.name, index, outcome, others.share()?);
            }
        }
        // Each time anew, so that an interrupted run leaves what it has found.
        written = report.write(&args.out())?;
    }
    say(&report.table())?;
    note(&format!("written: {}", written.join(", ")))
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("write to stdout")
}

fn note(text: &str) -> Result<()> {
    writeln!(io::stderr(), "{text}").context("write to stderr")
}
