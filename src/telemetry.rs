//! Logs and what the operator is told: Go's environment variables, Go's line formats, and never
//! in the daemon's way.
//!
//! [`init`] reads the environment (COMPATIBILITY.md 1.4) and installs the one subscriber. A line
//! is formatted where it is caused and queued. A thread for each of stderr, stdout and the log
//! file writes what is queued: a reader that stops reading, or goes away, costs lines and
//! nothing else.

pub(crate) mod canonical;
mod chain;
mod console;
mod layer;
mod line;
mod output;
mod settings;

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing_subscriber::layer::SubscriberExt;

pub use chain::Chain;
pub use console::{banner, flush, operator_line, operator_lines, report};
pub(crate) use line::escaped;
pub(crate) use output::lines_lost;

use layer::Lines;
use line::Format;
use output::{Output, Target};
use settings::{Outputs, Settings};

use crate::wording::system_error;

/// Go's names for parts of the daemon, and the crates and modules that do the same work here.
/// The first match names a line's logger.
const SUBSYSTEMS: [(&str, &[&str]); 11] = [
    ("dht", &["rp2pd::dht"]),
    ("pubsub", &["rp2pd::pubsub"]),
    ("autonat", &["rp2pd::autonat"]),
    ("nat", &["rp2pd::port_mapping"]),
    ("p2p-holepunch", &["rp2pd::relay::punch"]),
    ("autorelay", &["rp2pd::relay::autorelay"]),
    ("p2pd", &["rp2pd"]),
    ("swarm2", &["libp2p_swarm"]),
    ("relay", &["libp2p_relay"]),
    ("net/identify", &["libp2p_identify"]),
    ("tcp-tpt", &["libp2p_tcp"]),
];

/// The logs of the process, from start to end.
#[derive(Debug, Clone)]
pub struct Logs {
    file: Option<Output>,
}

impl Logs {
    /// Waits until the lines so far are written to the log file, at most `limit`. What goes to
    /// stderr and stdout is the matter of [`flush`], which comes after: a file that fails sends
    /// its lines there.
    pub fn flush(&self, limit: Duration) {
        if let Some(file) = &self.file {
            file.flush(Instant::now() + limit);
        }
    }
}

/// Reads the environment and sends every event that passes its filter to its outputs; sends
/// messages of panics to stderr without waiting for its reader.
///
/// Complaints about the environment go to stderr, in Go's words; the daemon runs on.
#[must_use]
pub fn init() -> Logs {
    console::report_panics();
    let environment = |name: &str| std::env::var(name).ok();
    let (settings, mut complaints) = settings::read(environment, std::io::stderr().is_terminal());
    let Settings {
        filter,
        format,
        mut outputs,
    } = settings;
    let file = outputs.file.take().and_then(|path| {
        let opened = open(&path, outputs.stderr);
        opened
            .map_err(|complaint| {
                complaints.push(complaint);
                outputs.stderr = true;
            })
            .ok()
    });
    for complaint in complaints {
        console::raw_line(&complaint);
    }
    let outputs = targets(&outputs, file.clone(), format);
    let subscriber = tracing_subscriber::registry()
        .with(Lines { format, outputs })
        .with(filter);
    // Only a test that has its own subscriber can be in the way.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Logs { file }
}

/// All places that log lines go to.
fn targets(outputs: &Outputs, file: Option<Output>, format: Format) -> Vec<Output> {
    let stdout = outputs.stdout.then(|| console::stdout().clone());
    let stderr = outputs.stderr.then(|| console::stderr().clone());
    let targets: Vec<_> = [stdout, file, stderr].into_iter().flatten().collect();
    for target in &targets {
        target.set_format(format);
    }
    targets
}

/// Opens a log file, or says in Go's words why it cannot be.
fn open(path: &Path, on_stderr_too: bool) -> Result<Output, String> {
    match OpenOptions::new().append(true).create(true).open(path) {
        Ok(file) => Ok(Output::new(Target::File {
            file,
            stderr: console::stderr().clone(),
            on_stderr_too,
        })),
        Err(error) => {
            let (path, reason) = (path.display(), system_error(&error));
            Err(format!(
                "unable to open logging output: open {path}: {reason}"
            ))
        }
    }
}

#[cfg(test)]
mod tests;
