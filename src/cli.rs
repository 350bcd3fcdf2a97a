//! The command line: what the user typed.
//!
//! Clients written for the Go daemons pass Go's flag syntax, which no Rust parser speaks: one
//! dash or two, bools that never take the next word, parsing that stops at the first word
//! without a dash (COMPATIBILITY.md 1.2). So [`syntax`] is a reader of its own over a table of
//! flags.

mod flags;
mod manual;
mod suggest;
mod syntax;
mod usage;

use std::ffi::OsString;

pub use flags::{Args, KeygenArgs};

use crate::settings;
use syntax::{Parsed, SyntaxError};

/// The first word that asks for the usage text.
const HELP: &str = "help";
/// The first word that asks for the version.
const VERSION: &str = "version";
/// The first word that asks for a new key file instead of a daemon.
const KEYGEN: &str = "keygen";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The daemon, or one of its checks: `-version`, `-validate`, `-healthcheck`.
    Daemon(Box<Args>),
    /// `keygen`: write a new key file.
    Keygen(KeygenArgs),
    /// `version`, `completions SHELL` or `man`: print this text.
    Print(String),
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

/// Reads the command line, program name first.
///
/// # Errors
/// [`Stop`] on `-h` and on whatever Go's flag package refuses.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let mut words = argv.into_iter().peekable();
    let program = words.next().unwrap_or_else(|| "rp2pd".into());
    let program = program.to_string_lossy();
    if words.next_if(|word| word == KEYGEN).is_some() {
        let name = format!("{program} {KEYGEN}");
        let flags: Vec<_> = flags::KEYGEN.iter().collect();
        let parsed = syntax::parse(&flags, &[], words)
            .map_err(|error| stop(&error, &usage::usage(&name, &flags, &[])))?;
        return Ok(Command::Keygen(parsed.values));
    }
    if words.next_if(|word| word == manual::MANUAL).is_some() {
        return Ok(Command::Print(manual::manual()));
    }
    if words.next_if(|word| word == manual::COMPLETIONS).is_some() {
        let script = manual::completions(words.next());
        return script.map(Command::Print).map_err(|usage| Stop {
            code: 2,
            text: format!("{usage}\n"),
        });
    }
    let flags = settings::flags();
    let usage = || usage::usage(&program, &flags, settings::ALIASES);
    if words.next_if(|word| word == HELP).is_some() {
        return Err(stop(&SyntaxError::Help, &usage()));
    }
    if words.next_if(|word| word == VERSION).is_some() {
        return Ok(Command::Print(version()));
    }
    if let Some(reason) = words.peek().and_then(|word| suggest::no_command(word)) {
        return Err(stop(&SyntaxError::Bad(reason), &usage()));
    }
    let Parsed { values, rest } =
        syntax::parse(&flags, settings::ALIASES, words).map_err(|error| stop(&error, &usage()))?;
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

fn stop(error: &SyntaxError, usage: &str) -> Stop {
    match error {
        SyntaxError::Help => Stop {
            code: 0,
            text: usage.to_owned(),
        },
        SyntaxError::Bad(reason) => Stop {
            code: 2,
            // Clients find Go's words in the first line; people see the last.
            text: format!("{reason}\n{usage}{reason}{}\n", suggest::flag(reason)),
        },
    }
}

#[cfg(test)]
mod tests;
