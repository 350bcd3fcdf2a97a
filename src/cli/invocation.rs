//! Commands as they are typed: what the words after the daemon's flags ask for.

use std::ffi::OsString;

use super::{
    Args, Command, Question, Stop,
    commands::{COMMANDS, Kind, Row, SHELLS},
    flags, help, manual, suggest, syntax, usage,
};
use crate::settings::{ALIASES, Given, flags as daemon_flags};

/// A command as it was typed.
pub(super) struct Invocation {
    /// How the program was called.
    program: String,
    row: &'static Row,
    /// The flags before the word; whoever asks a daemon finds its socket there.
    given: Given,
    /// What follows the word.
    pub(super) words: Vec<OsString>,
}

/// What the words after the daemon's flags ask for. `None` if they end the flags in a way that
/// Go knows as well: none, `-`, an empty one.
pub(super) fn read(
    program: &str,
    given: &Given,
    rest: &[OsString],
) -> Option<Result<Command, Stop>> {
    let (word, words) = rest.split_first()?;
    let Some(row) = COMMANDS.iter().find(|row| word == row.word) else {
        let reason = suggest::no_command(word)?;
        return Some(Err(Stop::refused(
            &reason,
            "",
            &usage::usage(program, &daemon_flags(), ALIASES),
        )));
    };
    let invocation = Invocation {
        program: program.to_owned(),
        row,
        given: given.clone(),
        words: words.to_vec(),
    };
    let asks_for_help = words
        .first()
        .and_then(|word| word.to_str())
        .is_some_and(|word| matches!(word, "-h" | "--h" | "-help" | "--help"));
    Some(match asks_for_help {
        true => Err(invocation.help()),
        false => invocation.read(),
    })
}

impl Invocation {
    /// What the word and those after it ask for.
    fn read(self) -> Result<Command, Stop> {
        match self.row.kind {
            Kind::Keygen => keygen(self),
            Kind::Status => status(self),
            Kind::Ping => self.about_one(Question::Ping),
            Kind::Probe => self.about(Question::Probe),
            Kind::Call => super::call::call(&self),
            Kind::Forward => super::tunnels::forward(&self),
            Kind::Expose => super::tunnels::expose(&self),
            Kind::Tunnels => super::tunnels::tunnels(&self),
            Kind::Completions => completions(self),
            Kind::Manual => self.print(manual::manual),
            Kind::Version => self.print(super::version),
            Kind::Help => help_of(self),
        }
    }

    fn help(&self) -> Stop {
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

    /// A question about the peer that is named, in one word or several.
    fn about(self, question: fn(Vec<String>) -> Question) -> Result<Command, Stop> {
        let (daemon, words) = self.daemon(self.words.clone())?;
        if words.is_empty() {
            return Err(self.refused("name a peer, by its id or by an address"));
        }
        let words = words.iter().map(|word| word.to_string_lossy().into_owned());
        Ok(Command::Ask(daemon, question(words.collect())))
    }

    /// A question about the one peer that is named.
    fn about_one(self, question: fn(String) -> Question) -> Result<Command, Stop> {
        let (daemon, words) = self.daemon(self.words.clone())?;
        let Some((target, rest)) = words.split_first() else {
            return Err(self.refused("name a peer, by its id or by an address"));
        };
        self.none_left(rest)?;
        let target = target.to_string_lossy().into_owned();
        Ok(Command::Ask(daemon, question(target)))
    }

    fn print(&self, text: fn() -> String) -> Result<Command, Stop> {
        self.none_left(&self.words)?;
        Ok(Command::Print(text()))
    }
}

fn status(invocation: Invocation) -> Result<Command, Stop> {
    let is_json = |word: &OsString| word == "--json" || word == "-json";
    let (json, words): (Vec<_>, Vec<_>) = invocation.words.iter().cloned().partition(is_json);
    let (daemon, rest) = invocation.daemon(words)?;
    invocation.none_left(&rest)?;
    let json = !json.is_empty();
    Ok(Command::Ask(daemon, Question::Status { json }))
}

fn keygen(invocation: Invocation) -> Result<Command, Stop> {
    let flags: Vec<_> = flags::KEYGEN.iter().collect();
    let parsed = syntax::parse(&flags, &[], invocation.words.iter().cloned());
    let parsed = parsed.map_err(|error| match error {
        syntax::SyntaxError::Help { .. } => invocation.help(),
        syntax::SyntaxError::Bad(reason) => {
            let hint = suggest::hint(&reason, &flags, &[]);
            let usage = help::of_command(&invocation.program, invocation.row);
            Stop::refused(&reason, &hint, &usage)
        }
    })?;
    invocation.none_left(&parsed.rest)?;
    Ok(Command::Keygen(parsed.values))
}

fn completions(invocation: Invocation) -> Result<Command, Stop> {
    let (shell, rest) = match invocation.words.split_first() {
        Some((shell, rest)) => (shell.to_string_lossy(), rest),
        None => return Err(invocation.refused(&format!("name a shell: {}", SHELLS))),
    };
    invocation.none_left(rest)?;
    manual::completions(&shell)
        .map(Command::Print)
        .ok_or_else(|| {
            let shell = crate::wording::quote(&shell);
            invocation.refused(&format!("no completions for {shell}: {}", SHELLS))
        })
}

fn help_of(invocation: Invocation) -> Result<Command, Stop> {
    let Some((word, rest)) = invocation.words.split_first() else {
        return Err(Stop::help(help::help(&invocation.program)));
    };
    invocation.none_left(rest)?;
    match COMMANDS.iter().find(|row| word == row.word) {
        Some(row) => Err(Stop::help(help::of_command(&invocation.program, row))),
        None => {
            let reason = suggest::no_command(word);
            Err(invocation.refused(&reason.unwrap_or_else(|| "name a command".into())))
        }
    }
}
