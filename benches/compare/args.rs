//! What the user typed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::binary::{self, Side};

/// Compares two libp2p daemons in one run.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub(crate) struct Args {
    /// First daemon, as NAME=PATH; PATH may be the word `fork`.
    #[arg(long, value_name = "NAME=PATH", default_value = binary::DEFAULT_A)]
    a: String,
    /// Second daemon; the ratios say how many times better the first one is.
    #[arg(long, value_name = "NAME=PATH", default_value = binary::DEFAULT_B)]
    b: String,
    /// Further flag for the first daemon, such as --a-flag=-dht; repeatable.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    a_flag: Vec<String>,
    /// Further flag for the second daemon; repeatable.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    b_flag: Vec<String>,
    /// Daemon that plays the many peers of `connection-memory` for both sides, as a path or
    /// `fork`; the first daemon's program if absent.
    #[arg(long, value_name = "PATH")]
    dialer: Option<String>,
    /// Run only the measurements whose name contains this; repeatable.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Times every measurement is repeated on either side (default 5, with --quick 3).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Shorter runs and smaller numbers: a look, not a result.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure the first daemon only.
    #[arg(long)]
    pub(crate) alone: bool,
    /// Wait up to so many seconds before each run for other processes to be quiet.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    calm: u32,
    /// Directory for results.json, table.md and the plots (default below target/).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the measurements and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Whether `name` passes `--only`.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| name.contains(text.as_str()))
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// The two daemons, fetched if need be.
    ///
    /// # Errors
    /// A side that is not NAME=PATH, or whose program is missing or cannot be fetched.
    pub(crate) fn sides(&self) -> Result<[Side; 2]> {
        Ok([
            Side::parse(&self.a, &self.a_flag)?,
            Side::parse(&self.b, &self.b_flag)?,
        ])
    }

    /// The daemon that plays many peers.
    ///
    /// # Errors
    /// As [`Args::sides`].
    pub(crate) fn dialer(&self, first: &Side) -> Result<Side> {
        match &self.dialer {
            Some(path) => Side::parse(&format!("dialer={path}"), &[]),
            None => Ok(Side {
                name: "dialer".to_owned(),
                path: first.path.clone(),
                flags: Vec::new(),
            }),
        }
    }

    pub(crate) fn calm(&self) -> Duration {
        Duration::from_secs(self.calm.into())
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.out
            .clone()
            .unwrap_or_else(|| binary::scratch().join("compare"))
    }
}
