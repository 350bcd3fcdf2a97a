//! What was probably meant by a flag or a word that does not exist.

use std::ffi::OsStr;

use super::{HELP, KEYGEN, VERSION, manual};
use crate::settings::{self, ALIASES};
use crate::wording::quote;

/// Similarity from which a name is suggested; 1 is the same name.
const SIMILAR: f64 = 0.75;

/// Longest name for which a suggestion is looked for, in bytes: no flag is as long.
const MAX_NAME: usize = 64;

/// The words that may come first instead of flags.
const WORDS: [&str; 5] = [HELP, VERSION, KEYGEN, manual::COMPLETIONS, manual::MANUAL];

/// What to add to an error about a flag that is not defined; empty if nothing is similar.
pub(super) fn flag(reason: &str) -> String {
    let Some(name) = reason.strip_prefix("flag provided but not defined: -") else {
        return String::new();
    };
    let flags = settings::flags().into_iter().map(|flag| flag.name);
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    let known = closest(name, flags.chain(aliases));
    known.map_or_else(String::new, |known| format!(": did you mean -{known}?"))
}

/// Why a first word that is neither a flag nor a command is refused; `None` if it ends the flags
/// in a way that Go knows as well (`-`, an empty word).
pub(super) fn no_command(word: &OsStr) -> Option<String> {
    let text = word.to_string_lossy();
    if text.is_empty() || text.starts_with('-') {
        return None;
    }
    let shown = quote(&text);
    Some(match closest(&text, WORDS.into_iter()) {
        Some(known) => format!("unknown command {shown}: did you mean {known}?"),
        None => format!(
            "unknown command {shown}: the commands are {}",
            WORDS.join(", ")
        ),
    })
}

fn closest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let similarity = |known: &str| strsim::jaro_winkler(&name, &known.to_ascii_lowercase());
    known
        .map(|known| (similarity(known), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_similar_is_suggested_and_nothing_else() {
        let flag = |name: &str| flag(&format!("flag provided but not defined: -{name}"));
        assert_eq!(flag("hostAddr"), ": did you mean -hostAddrs?");
        assert_eq!(flag("Listen"), ": did you mean -listen?");
        assert_eq!(flag("dhtsever"), ": did you mean -dhtServer?");
        assert_eq!(flag("zzz"), "");
        assert_eq!(flag(&"x".repeat(100_000)), "");
        let word = |word: &str| no_command(OsStr::new(word));
        assert_eq!(
            word("keygne").unwrap(),
            r#"unknown command "keygne": did you mean keygen?"#
        );
        assert!(
            word("zzz")
                .unwrap()
                .ends_with("the commands are help, version, keygen, completions, man")
        );
        assert_eq!((word("-q"), word("-"), word("")), (None, None, None));
    }
}
