//! The usage text, laid out as Go's `flag.PrintDefaults`.

use std::fmt::Write;

use super::syntax::Alias;
use crate::settings::Flag;
use crate::wording::quote;

/// Longest `-x` whose help stays on the same line.
const SHORT: usize = 2;

/// `Usage of <program>:` and every flag, sorted by name.
pub(super) fn usage<T>(program: &str, flags: &[&Flag<T>], aliases: &[Alias]) -> String {
    let mut entries: Vec<(&str, String)> = flags
        .iter()
        .map(|flag| (flag.name, entry(flag.name, flag.kind, &described(flag))))
        .collect();
    for (alias, target) in aliases {
        let kind = flags
            .iter()
            .find(|flag| flag.name == *target)
            .map_or("", |flag| flag.kind);
        entries.push((alias, entry(alias, kind, &format!("same as -{target}"))));
    }
    entries.sort_by_key(|(name, _)| *name);
    let mut text = format!("Usage of {program}:\n");
    text.extend(entries.into_iter().map(|(_, entry)| entry));
    text
}

/// What a flag does, and its default.
pub(super) fn described<T>(flag: &Flag<T>) -> String {
    let mut text = flag.help.to_owned();
    let default = (flag.default)();
    if !default.is_empty() {
        let default = match flag.kind {
            "string" => quote(&default),
            _ => default,
        };
        // Writing to a String cannot fail.
        let _ = write!(text, " (default {default})");
    }
    text
}

fn entry(name: &str, kind: &str, help: &str) -> String {
    let mut line = format!("  -{name}");
    if !kind.is_empty() {
        line.push(' ');
        line.push_str(kind);
    }
    let gap = if kind.is_empty() && name.len() < SHORT {
        "\t"
    } else {
        "\n    \t"
    };
    format!("{line}{gap}{help}\n")
}
