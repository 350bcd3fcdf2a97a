//! Logs: Go's environment variables, Go's line formats, and never in the daemon's way.
//!
//! [`init`] reads the environment (COMPATIBILITY.md 1.4) and installs the one subscriber. A log
//! line is
//! formatted where it is caused, put on a bounded queue and written by a thread of its own, which
//! starts with the first line: a reader that stops reading, or goes away, costs log lines and
//! nothing else. Spans are ignored; what matters of them is said in events.

mod console;
mod line;
mod settings;
mod writer;

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Metadata};
use tracing_subscriber::filter::Targets;

pub use console::{operator_line, raw_text};

use line::Format;
use settings::Settings;
use writer::Queue;

/// Go's names for parts of the daemon, and the crates and modules that do the same work here.
/// The first match names a line's logger.
const SUBSYSTEMS: [(&str, &[&str]); 10] = [
    ("dht", &["rp2pd::dht"]),
    ("pubsub", &["rp2pd::pubsub"]),
    ("p2pd", &["rp2pd"]),
    ("swarm2", &["libp2p_swarm"]),
    ("relay", &["libp2p_relay"]),
    ("autonat", &["libp2p_autonat"]),
    ("p2p-holepunch", &["libp2p_dcutr"]),
    ("net/identify", &["libp2p_identify"]),
    ("nat", &["libp2p_upnp"]),
    ("tcp-tpt", &["libp2p_tcp"]),
];

/// The logs of the process, from start to end.
#[derive(Debug, Clone)]
pub struct Logs {
    queue: Queue,
}

impl Logs {
    /// Waits until the lines so far are written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        self.queue.flush(limit);
    }
}

/// Reads the environment and sends every event that passes its filter to its outputs.
///
/// Complaints about the environment go to stderr, in Go's words; the daemon runs on.
#[must_use]
pub fn init() -> Logs {
    let environment = |name: &str| std::env::var(name).ok();
    let (settings, mut complaints) = settings::read(environment, std::io::stderr().is_terminal());
    let Settings {
        filter,
        format,
        outputs,
    } = settings;
    let (sinks, failed) = writer::open(&outputs);
    complaints.extend(failed);
    for complaint in complaints {
        console::raw_line(&complaint);
    }
    let queue = Queue::new(sinks, format);
    let logger = Logger {
        filter,
        format,
        queue: queue.clone(),
    };
    // Only a test that has its own subscriber can be in the way.
    let _ = tracing::subscriber::set_global_default(logger);
    Logs { queue }
}

/// Writes the events that pass a filter.
#[derive(Debug)]
struct Logger {
    filter: Targets,
    format: Format,
    queue: Queue,
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && self
                .filter
                .would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let levels = self.filter.iter().map(|(_, level)| level);
        levels.chain(self.filter.default_level()).max()
    }

    fn event(&self, event: &Event<'_>) {
        self.queue
            .send(line::of(event, self.format, SystemTime::now()));
    }

    // Spans are never enabled, so none of the rest is called for one.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests;
