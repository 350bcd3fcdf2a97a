//! A command as it is typed.

use std::ffi::OsString;

use super::{
    Args, Stop,
    commands::{Kind, Row},
    help, suggest, syntax,
};
use crate::settings::{ALIASES, Given, flags as daemon_flags};

/// A command as it was typed.
pub(super) struct Invocation {
    /// How the program was called.
    pub(super) program: String,
    pub(super) row: &'static Row,
    /// The flags before the word; whoever asks a daemon finds its socket there.
    pub(super) given: Given,
    /// What follows the word.
    pub(super) words: Vec<OsString>,
}

impl Invocation {
    pub(super) fn help(&self) -> Stop {
        Stop::help(help::of_command(&self.program, self.row))
    }

    pub(super) fn refused(&self, reason: &str) -> Stop {
        Stop::refused(reason, "", &help::of_command(&self.program, self.row))
    }

    /// Refuses the first of `words`: the command takes no more.
    pub(super) fn none_left(&self, words: &[OsString]) -> Result<(), Stop> {
        match words.first() {
            None => Ok(()),
            Some(word) => {
                let word = crate::wording::quote(&word.to_string_lossy());
                Err(self.refused(&format!("{} does not take {word}", self.row.word)))
            }
        }
    }

    /// The daemon to ask, and the words that are no flags of its address.
    pub(super) fn daemon(&self, words: Vec<OsString>) -> Result<(Box<Args>, Vec<OsString>), Stop> {
        let flags = daemon_flags();
        let mut given = self.given.clone();
        let (mut left, mut others) = (words, Vec::new());
        // The address may stand behind the other words as well.
        while !left.is_empty() {
            let parsed = syntax::parse(&flags, ALIASES, left.into_iter());
            let parsed: syntax::Parsed<Given> = parsed.map_err(|error| match error {
                syntax::SyntaxError::Help { .. } => self.help(),
                syntax::SyntaxError::Bad(reason) => {
                    let known = flags.iter().copied();
                    let known: Vec<_> = known.filter(|flag| flag.name == "listen").collect();
                    let own = matches!(self.row.kind, Kind::Status).then_some(("json", "listen"));
                    let own: Vec<_> = own.into_iter().collect();
                    let hint = suggest::hint(&reason, &known, &own);
                    Stop::refused(&reason, &hint, &help::of_command(&self.program, self.row))
                }
            })?;
            given.listen = parsed.values.listen.or(given.listen);
            let mut rest = parsed.rest.into_iter();
            others.extend(rest.next());
            left = rest.collect();
        }
        let args = Args {
            given,
            positional: Vec::new(),
        };
        Ok((Box::new(args), others))
    }
}
