//! Go's flag syntax (COMPATIBILITY.md 1.2), as the `flag` package of Go reads it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::settings::Flag;
use crate::wording::quote;

/// A second name: (alias, name).
pub(super) type Alias = (&'static str, &'static str);

/// A command line that was understood.
pub(super) struct Parsed<T> {
    /// Flags that were given; a repeated flag keeps its last value.
    pub(super) values: T,
    /// The word that ended the flags, and all after it.
    pub(super) rest: Vec<OsString>,
}

/// Why parsing ended early.
#[derive(Debug)]
pub(super) enum SyntaxError {
    /// `-h` or, `long`, `-help`, in whatever form.
    Help { long: bool },
    /// An error in Go's words, without the usage text.
    Bad(String),
}

/// Reads `words` (without the program's name) from left to right; the first error counts.
pub(super) fn parse<T: Default>(
    flags: &[&Flag<T>],
    aliases: &[Alias],
    words: impl Iterator<Item = OsString>,
) -> Result<Parsed<T>, SyntaxError> {
    let mut values = T::default();
    let mut words = words.peekable();
    while let Some(word) = words.next_if(|word| is_flag(word)) {
        if word == "--" {
            break;
        }
        let (name, mut value) = split(&word)?;
        let target = aliases
            .iter()
            .find_map(|(alias, target)| (*alias == name).then_some(*target));
        let target = target.unwrap_or(&name);
        let Some(flag) = flags.iter().find(|flag| flag.name == target) else {
            return Err(match name.as_str() {
                "h" => SyntaxError::Help { long: false },
                "help" => SyntaxError::Help { long: true },
                _ => SyntaxError::Bad(format!("flag provided but not defined: -{name}")),
            });
        };
        if value.is_none() {
            value = if flag.is_bool() {
                Some("true".into())
            } else {
                words.next()
            };
        }
        let Some(value) = value else {
            return Err(SyntaxError::Bad(format!("flag needs an argument: -{name}")));
        };
        (flag.set)(&mut values, &value).map_err(|error| {
            let value = quote(&value.to_string_lossy());
            SyntaxError::Bad(if flag.is_bool() {
                format!("invalid boolean value {value} for -{name}: {error}")
            } else {
                format!("invalid value {value} for flag -{name}: {error}")
            })
        })?;
    }
    Ok(Parsed {
        values,
        rest: words.collect(),
    })
}

fn is_flag(word: &OsStr) -> bool {
    matches!(word.as_bytes(), [b'-', _, ..])
}

/// Takes `-name=value` apart.
fn split(word: &OsStr) -> Result<(String, Option<OsString>), SyntaxError> {
    let bytes = word.as_bytes();
    let body = bytes
        .strip_prefix(b"--")
        .or_else(|| bytes.strip_prefix(b"-"))
        .unwrap_or(bytes);
    if matches!(body, [] | [b'-' | b'=', ..]) {
        let word = word.to_string_lossy();
        return Err(SyntaxError::Bad(format!("bad flag syntax: {word}")));
    }
    let mut halves = body.splitn(2, |byte| *byte == b'=');
    let name = halves.next().unwrap_or_default();
    let value = halves
        .next()
        .map(|value| OsString::from_vec(value.to_vec()));
    Ok((String::from_utf8_lossy(name).into_owned(), value))
}
