//! Which command a word names, and what the words after it ask for.

use std::ffi::OsString;

use super::{
    Command, Question, Stop, call,
    commands::{COMMANDS, Kind, SHELLS},
    flags, help,
    invocation::Invocation,
    manual, suggest, syntax, tunnels, usage,
};
use crate::settings::{ALIASES, Given, flags as daemon_flags};

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
        false => dispatch(invocation),
    })
}

/// What the word and those after it ask for.
fn dispatch(invocation: Invocation) -> Result<Command, Stop> {
    match invocation.row.kind {
        Kind::Keygen => keygen(invocation),
        Kind::Status => status(invocation),
        Kind::Ping => about_one(&invocation, Question::Ping),
        Kind::Probe => about(&invocation, Question::Probe),
        Kind::Call => call::call(&invocation),
        Kind::Forward => tunnels::forward(&invocation),
        Kind::Expose => tunnels::expose(&invocation),
        Kind::Tunnels => tunnels::tunnels(&invocation),
        Kind::Completions => completions(invocation),
        Kind::Manual => print(&invocation, manual::manual),
        Kind::Version => print(&invocation, super::version),
        Kind::Help => help_of(invocation),
    }
}

/// A question about the peer that is named, in one word or several.
fn about(invocation: &Invocation, question: fn(Vec<String>) -> Question) -> Result<Command, Stop> {
    let (daemon, words) = invocation.daemon(invocation.words.clone())?;
    if words.is_empty() {
        return Err(invocation.refused("name a peer, by its id or by an address"));
    }
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    Ok(Command::Ask(daemon, question(words.collect())))
}

/// A question about the one peer that is named.
fn about_one(invocation: &Invocation, question: fn(String) -> Question) -> Result<Command, Stop> {
    let (daemon, words) = invocation.daemon(invocation.words.clone())?;
    let Some((target, rest)) = words.split_first() else {
        return Err(invocation.refused("name a peer, by its id or by an address"));
    };
    invocation.none_left(rest)?;
    let target = target.to_string_lossy().into_owned();
    Ok(Command::Ask(daemon, question(target)))
}

fn print(invocation: &Invocation, text: fn() -> String) -> Result<Command, Stop> {
    invocation.none_left(&invocation.words)?;
    Ok(Command::Print(text()))
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
