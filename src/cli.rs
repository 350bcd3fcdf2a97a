//! The command line: what the user typed.
//!
//! Clients written for the Go daemons pass Go's flag syntax, which no Rust parser speaks: one
//! dash or two, bools that never take the next word, parsing that stops at the first word
//! without a dash (COMPATIBILITY.md 1.2). So [`syntax`] is a reader of its own over a table of
//! flags.

mod call;
mod commands;
mod completions;
mod dispatch;
mod flags;
mod help;
mod invocation;
mod manual;
pub(crate) mod suggest;
mod syntax;
mod tunnels;
mod usage;

use std::ffi::OsString;

pub use crate::identity::KeygenArgs;
pub use flags::Args;

use crate::settings::{self, ALIASES};
use syntax::{Parsed, SyntaxError};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The daemon, or one of its checks: `-version`, `-validate`, `-healthcheck`.
    Daemon(Box<Args>),
    /// `keygen`: write a new key file.
    Keygen(KeygenArgs),
    /// `status`, `ping`, `probe`, `call` and those of tunnels: ask a running daemon.
    Ask(Box<Args>, Question),
    /// `version`, `completions SHELL` or `man`: print this text.
    Print(String),
}

/// What a running daemon is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What it knows.
    Status {
        /// As JSON.
        json: bool,
    },
    /// How long a peer takes to answer.
    Ping(String),
    /// What the addresses of a peer answer.
    Probe(Vec<String>),
    /// Carry a port of this host to a peer.
    Forward {
        /// The name of the service.
        name: String,
        /// Who exposes it, by its id or an address.
        peer: String,
        /// Where to listen; any free port of loopback unless that is said.
        listen: Option<String>,
        /// Whether it stays when the command ends.
        keep: bool,
    },
    /// Let peers use a service of this host.
    Expose {
        /// The name of the service.
        name: String,
        /// Where it is.
        target: String,
        /// Who may use it; all peers if nobody is named.
        allow: Vec<String>,
        /// Whether it stays when the command ends.
        keep: bool,
    },
    /// One request, by its name.
    Call {
        /// The name.
        verb: String,
        /// Its parameters as JSON.
        part: String,
    },
    /// What is exposed and forwarded.
    Tunnels,
    /// End some of it.
    CloseTunnels(Vec<u64>),
}

/// A command line that ends the program: print `text` on stderr, exit with `code`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Stop {
    /// 0 after `-h`, 2 after an error, as in Go.
    pub code: u8,
    /// Error and usage text, newline at the end.
    pub text: String,
}

impl Stop {
    fn help(text: String) -> Self {
        Self { code: 0, text }
    }

    /// Clients find Go's words in the first line; people see the last, which ends with `hint`.
    fn refused(reason: &str, hint: &str, usage: &str) -> Self {
        Self {
            code: 2,
            text: format!("{reason}\n{usage}{reason}{hint}\n"),
        }
    }
}

/// Reads the command line, program name first.
///
/// # Errors
/// [`Stop`] on `-h` and on whatever Go's flag package refuses; and on a word that is no command,
/// before which Go would start.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let mut words = argv.into_iter();
    let program = words.next().unwrap_or_else(|| "rp2pd".into());
    let program = program.to_string_lossy();
    let flags = settings::flags();
    let usage = || usage::usage(&program, &flags, ALIASES);
    let parsed = syntax::parse(&flags, ALIASES, words);
    let Parsed { values, rest } = parsed.map_err(|error| match error {
        SyntaxError::Help { long: false } => Stop::help(help::help(&program)),
        SyntaxError::Help { long: true } => Stop::help(usage()),
        SyntaxError::Bad(reason) => {
            let hint = suggest::hint(&reason, &flags, ALIASES);
            Stop::refused(&reason, &hint, &usage())
        }
    })?;
    if let Some(command) = dispatch::read(&program, &values, &rest) {
        return command;
    }
    Ok(Command::Daemon(Box::new(Args {
        given: values,
        positional: rest,
    })))
}

/// The line that `version` and `-version` print.
#[must_use]
pub fn version() -> String {
    format!("rp2pd {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
