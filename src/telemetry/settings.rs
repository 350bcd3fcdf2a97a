//! What the environment asks for (COMPATIBILITY.md 1.4).

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::SUBSYSTEMS;
use super::line::Format;
use crate::wording::quote;

/// What is not said by a library.
const OWN: [&str; 2] = ["rp2pd", "canonical-log"];

/// How to log.
#[derive(Debug)]
pub(super) struct Settings {
    /// What to write.
    pub(super) filter: Targets,
    /// How lines look.
    pub(super) format: Format,
    /// Where they go.
    pub(super) outputs: Outputs,
}

/// Where log lines go; any number of places.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Outputs {
    /// Standard error.
    pub(super) stderr: bool,
    /// Standard output.
    pub(super) stdout: bool,
    /// A file, appended to.
    pub(super) file: Option<PathBuf>,
}

/// Reads the settings, and complaints about what cannot be understood.
pub(super) fn read(
    variable: impl Fn(&str) -> Option<String>,
    terminal: bool,
) -> (Settings, Vec<String>) {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut complaints = Vec::new();
    let go = match variable("GOLOG_LOG_LEVEL") {
        Some(levels) => filter(&levels, level, &mut complaints),
        None => {
            let levels = variable("IPFS_LOGGING").unwrap_or_default();
            filter(&levels, ipfs_level, &mut complaints)
        }
    };
    let rust = variable("RUST_LOG").and_then(|text| match text.parse() {
        Ok(filter) => Some(filter),
        Err(error) => {
            complaints.push(format!("ignoring RUST_LOG {}: {error}", quote(&text)));
            None
        }
    });
    let named = variable("GOLOG_LOG_FMT").or_else(|| variable("IPFS_LOGGING_FMT"));
    let outputs = outputs(&variable, &mut complaints);
    let format = match named.as_deref() {
        Some("json") => Format::Json,
        Some("nocolor") => Format::Plain,
        Some("color") => Format::Color,
        other => {
            if let Some(name) = other {
                complaints.push(format!("ignoring unrecognized log format '{name}'"));
            }
            // no-color.org.
            if terminal && outputs.stderr && variable("NO_COLOR").is_none() {
                Format::Color
            } else {
                Format::Plain
            }
        }
    };
    let settings = Settings {
        filter: rust.unwrap_or(go),
        format,
        outputs,
    };
    (settings, complaints)
}

/// Reads `level` and `subsystem=level`, separated by commas; without a level only errors pass. As
/// in Go, what is said of a subsystem counts whatever is said of all, before it or after.
fn filter(
    text: &str,
    level: fn(&str) -> Option<LevelFilter>,
    complaints: &mut Vec<String>,
) -> Targets {
    let mut all = LevelFilter::ERROR;
    let mut named = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (subsystem, name) = match part.split_once('=') {
            Some((subsystem, name)) => (Some(subsystem), name),
            None => (None, part),
        };
        let Some(level) = level(name) else {
            let (part, name) = (quote(part), quote(name));
            complaints.push(format!(
                "error setting log level {part}: unrecognized level: {name}"
            ));
            continue;
        };
        match subsystem {
            None => all = level,
            // An empty target would match every line; in Go it matches none.
            Some("") => {}
            Some(subsystem) => named.push((subsystem, level)),
        }
    }
    let mut targets = everywhere(all);
    for (subsystem, level) in named {
        match SUBSYSTEMS.iter().find(|(name, _)| *name == subsystem) {
            Some((_, ours)) => {
                targets = targets.with_targets(ours.iter().map(|target| (*target, level)));
            }
            None => targets = targets.with_target(subsystem, level),
        }
    }
    targets
}

/// A level for everything. At `info` and `warn` a person follows the daemon: what libraries say
/// then is about their insides, or about what any stranger sends, and only their errors pass.
fn everywhere(level: LevelFilter) -> Targets {
    let targets = Targets::new();
    match level {
        LevelFilter::INFO | LevelFilter::WARN => targets
            .with_default(LevelFilter::ERROR)
            .with_targets(OWN.map(|own| (own, level))),
        _ => targets.with_default(level),
    }
}

/// Go's level names. Nothing is logged above `error`, so the levels beyond switch off.
fn level(name: &str) -> Option<LevelFilter> {
    Some(match name.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        "dpanic" | "panic" | "fatal" => LevelFilter::OFF,
        _ => return None,
    })
}

/// The levels of the old variable, which one client still sets.
fn ipfs_level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "critical" => Some(LevelFilter::OFF),
        "warning" => Some(LevelFilter::WARN),
        "notice" => Some(LevelFilter::INFO),
        _ => level(name),
    }
}

/// A file turns stderr off, unless both are asked for.
fn outputs(variable: &impl Fn(&str) -> Option<String>, complaints: &mut Vec<String>) -> Outputs {
    let file = variable("GOLOG_FILE").map(PathBuf::from);
    let mut outputs = Outputs {
        stderr: file.is_none(),
        stdout: false,
        file,
    };
    for output in variable("GOLOG_OUTPUT").unwrap_or_default().split('+') {
        match output {
            "stderr" => outputs.stderr = true,
            "stdout" => outputs.stdout = true,
            "file" if outputs.file.is_none() => {
                complaints.push("please specify a GOLOG_FILE value to write to".into());
            }
            _ => {}
        }
    }
    outputs
}
