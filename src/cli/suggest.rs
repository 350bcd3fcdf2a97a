//! What was probably meant by a flag, a value or a word that is refused.

use std::ffi::OsStr;

use super::commands::COMMANDS;
use super::syntax::Alias;
use crate::settings::{Flag, values_of};
use crate::wording::{closest, quote};

/// What to add to Go's words about a flag; empty if nothing helps.
pub(super) fn hint<T>(reason: &str, flags: &[&Flag<T>], aliases: &[Alias]) -> String {
    if let Some(word) = reason.strip_prefix("bad flag syntax: ") {
        let name = word.trim_start_matches('-');
        return match name.is_empty() || name.starts_with('=') {
            true => ": a flag is -NAME or -NAME=VALUE".into(),
            false => format!(": did you mean -{name}?"),
        };
    }
    if let Some(name) = reason.strip_prefix("flag provided but not defined: -") {
        let names = flags.iter().map(|flag| flag.name);
        let aliases = aliases.iter().map(|(alias, _)| *alias);
        let known = closest(name, names.chain(aliases));
        let known = known.or(matches!(name, "v" | "V").then_some("version"));
        return match known {
            Some(known) => format!(": did you mean -{known}?"),
            None => ": -h lists the flags".into(),
        };
    }
    let named = |name: &str| {
        let target = aliases.iter().find(|(alias, _)| *alias == name);
        let target = target.map_or(name, |(_, target)| target);
        flags.iter().find(|flag| flag.name == target)
    };
    // "flag needs an argument: -x", "invalid value "v" for flag -x: parse error", "invalid boolean
    // value "v" for -x: parse error"; the value may hold anything.
    let (head, reason) = reason.rsplit_once(": ").unwrap_or(("", reason));
    let at = match head {
        "flag needs an argument" => reason,
        head => head.rsplit(' ').next().unwrap_or_default(),
    };
    match named(at.trim_start_matches('-')) {
        Some(flag) => format!(": {}", expected(flag)),
        None => String::new(),
    }
}

/// What a flag takes.
fn expected<T>(flag: &Flag<T>) -> String {
    let name = flag.name;
    let example = match (flag.default)() {
        default if default.is_empty() => None,
        default => Some(default),
    };
    let example = |other: &str| example.clone().unwrap_or_else(|| other.to_owned());
    match flag.kind {
        "" => format!("write -{name}=true or -{name}=false"),
        "duration" => format!("a time needs a unit, as in -{name}={}", example("30s")),
        "size" => format!("bytes, or with a unit, as in -{name}=512MiB"),
        "mode" => format!("three octal digits, as in -{name}=0660"),
        "int" => format!("a whole number, as in -{name}={}", example("1")),
        "uint" => format!("a whole number that is not negative, as in -{name}=6060"),
        _ => match values_of(name) {
            [] if name == "metricsAddr" => format!("an address, as in -{name}=127.0.0.1:8888"),
            [] => format!("as in -{name}={}", example("VALUE")),
            values => format!("one of {}", values.join(", ")),
        },
    }
}

/// Why a word that is neither a flag nor a command is refused; `None` if it ends the flags in a
/// way that Go knows as well (`-`, an empty word, what follows `--`).
pub(super) fn no_command(word: &OsStr) -> Option<String> {
    let text = word.to_string_lossy();
    if text.is_empty() || text.starts_with('-') {
        return None;
    }
    let shown = quote(&text);
    if matches!(&*text.to_ascii_lowercase(), "true" | "false" | "0" | "1") {
        return Some(format!(
            "unknown command {shown}: a bool takes its value after \"=\", as in -b={text}"
        ));
    }
    let words = || COMMANDS.iter().map(|row| row.word);
    if matches!(
        &*text.to_ascii_lowercase(),
        "start" | "run" | "daemon" | "serve"
    ) {
        return Some(format!(
            "unknown command {shown}: the daemon starts without a word, -h lists its flags"
        ));
    }
    Some(match closest(&text, words()) {
        Some(known) => format!("unknown command {shown}: did you mean {known}?"),
        None => format!(
            "unknown command {shown}: the commands are {}",
            words().collect::<Vec<_>>().join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ALIASES, flags};

    fn flag(name: &str) -> String {
        let reason = format!("flag provided but not defined: -{name}");
        hint(&reason, &flags(), ALIASES)
    }

    #[test]
    fn what_is_similar_is_suggested_and_nothing_else() {
        assert_eq!(flag("hostAddr"), ": did you mean -hostAddrs?");
        assert_eq!(flag("host-addrs"), ": did you mean -hostAddrs?");
        assert_eq!(flag("Listen"), ": did you mean -listen?");
        assert_eq!(flag("dhtsever"), ": did you mean -dhtServer?");
        assert_eq!(flag("zzz"), ": -h lists the flags");
        assert_eq!(flag(&"x".repeat(100_000)), ": -h lists the flags");
        let word = |word: &str| no_command(OsStr::new(word));
        assert_eq!(
            word("keygne").unwrap(),
            r#"unknown command "keygne": did you mean keygen?"#
        );
        assert!(word("zzz").unwrap().contains("the commands are "));
        assert_eq!((word("-q"), word("-"), word("")), (None, None, None));
    }

    #[test]
    fn a_wrong_value_is_answered_with_a_right_one() {
        let hint = |reason: &str| hint(reason, &flags(), ALIASES);
        for (reason, expected) in [
            (
                r#"invalid boolean value "yes" for -b: parse error"#,
                ": write -b=true or -b=false",
            ),
            (
                r#"invalid value "30" for flag -connGrace: parse error"#,
                ": a time needs a unit, as in -connGrace=2m0s",
            ),
            (
                r#"invalid value "a: b for flag -q" for flag -connMgrLo: parse error"#,
                ": a whole number, as in -connLo=256",
            ),
            ("flag needs an argument: -muxer", ": one of yamux, mplex"),
            (
                "flag needs an argument: -listen",
                ": as in -listen=/unix/tmp/p2pd.sock",
            ),
            ("bad flag syntax: ---listen", ": did you mean -listen?"),
            ("bad flag syntax: -=v", ": a flag is -NAME or -NAME=VALUE"),
            ("", ""),
        ] {
            assert_eq!(hint(reason), expected, "{reason}");
        }
    }
}
