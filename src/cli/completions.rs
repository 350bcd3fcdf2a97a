//! Completion scripts for bash, zsh and fish: flags with one dash, the values of those that have
//! some, files where one is named. A bool has values only after "=".

use std::fmt::Write as _;

use super::commands::{COMMANDS, SHELLS};
use crate::settings::{ALIASES, Flag, flags, values_of};

/// How the address of a control socket begins, or that of a peer.
const ADDRESSES: [&str; 4] = [
    "/unix/",
    "/ip4/127.0.0.1/tcp/",
    "/ip4/0.0.0.0/tcp/",
    "/ip6/::/tcp/",
];

/// A flag as a shell sees it.
struct Word {
    name: &'static str,
    help: &'static str,
    takes: Takes,
}

enum Takes {
    Bool,
    Path,
    /// One of these.
    Values(Vec<&'static str>),
    /// Something that nobody can guess.
    Text,
}

fn word<T>(name: &'static str, flag: &Flag<T>) -> Word {
    let takes = match (flag.is_bool(), flag.is_path, values_of(flag.name)) {
        (true, ..) => Takes::Bool,
        (_, true, _) => Takes::Path,
        (.., values @ [_, ..]) => Takes::Values(values.to_vec()),
        _ if flag.name == "listen" || flag.name.ends_with("Addrs") => {
            Takes::Values(ADDRESSES.to_vec())
        }
        _ => Takes::Text,
    };
    Word {
        name,
        help: flag.help,
        takes,
    }
}

/// Every flag of the daemon under each of its names.
fn daemon() -> Vec<Word> {
    let flags = flags();
    let mut words: Vec<Word> = flags.iter().map(|flag| word(flag.name, flag)).collect();
    for (alias, name) in ALIASES {
        words.extend(
            flags
                .iter()
                .filter(|flag| flag.name == *name)
                .map(|flag| word(alias, flag)),
        );
    }
    words
}

/// The words that may follow a command, and its flags.
fn of_command(row: &super::commands::Row) -> (Vec<&'static str>, Vec<Word>) {
    let words = match row.word {
        "completions" => SHELLS.split('|').collect(),
        "help" => COMMANDS.iter().map(|row| row.word).collect(),
        _ => Vec::new(),
    };
    (
        words,
        row.flags.iter().map(|flag| word(flag.name, flag)).collect(),
    )
}

fn dashed(words: &[Word]) -> String {
    let names: Vec<_> = words.iter().map(|word| format!("-{}", word.name)).collect();
    names.join(" ")
}

fn names() -> String {
    let names: Vec<_> = COMMANDS.iter().map(|row| row.word).collect();
    names.join(" ")
}

/// The script for bash. It reads the words by itself: bash cuts them at "=".
pub(super) fn bash() -> String {
    let mut values = String::new();
    let mut lists = String::new();
    let mut add = |command: &str, words: &[Word]| {
        for word in words {
            let reply = match &word.takes {
                Takes::Bool => "bools",
                Takes::Path => "files",
                Takes::Values(list) => &format!("values {}", list.join(" ")),
                Takes::Text => "nothing",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                values,
                "        {command:?}:-{}) echo {reply} ;;",
                word.name
            );
        }
    };
    add("", &daemon());
    for row in COMMANDS {
        let (words, flags) = of_command(row);
        add(row.word, &flags);
        let list = format!("{} {}", words.join(" "), dashed(&flags));
        let _ = writeln!(lists, "        {}) echo {:?} ;;", row.word, list.trim());
    }
    let (commands, flags) = (names(), dashed(&daemon()));
    format!(
        r#"# Completions of rp2pd for bash.
_rp2pd_takes() {{
    case "$1" in
{values}        *) echo unknown ;;
    esac
}}

_rp2pd_words() {{
    case "$1" in
{lists}        *) echo "{commands} {flags}" ;;
    esac
}}

_rp2pd() {{
    local words=() word joined=no i takes command="" flag="" cur prefix=""
    # The words as the program sees them, up to the cursor.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [[ $word == "=" || $joined == yes ]]; then
            words[${{#words[@]}}-1]+=$word
            [[ $word == "=" ]] && joined=yes || joined=no
        else
            words+=("$word")
        fi
    done
    cur=${{words[${{#words[@]}}-1]}}
    for ((i = 1; i < ${{#words[@]}} - 1; i++)); do
        word=${{words[i]/#--/-}}
        if [[ -n $flag ]]; then
            flag=""
        elif [[ $word == -*=* ]]; then
            :
        elif [[ $word == -* ]]; then
            takes=$(_rp2pd_takes "$command:$word")
            [[ $takes == bools || $takes == unknown ]] || flag=$word
        elif [[ -z $command ]]; then
            command=$word
        fi
    done
    COMPREPLY=()
    if [[ -z $flag && $cur == -*=* ]]; then
        flag=${{cur%%=*}} flag=${{flag/#--/-}}
        # Bash replaces only what stands after the "=", unless that is no break.
        [[ $COMP_WORDBREAKS == *=* ]] || prefix=${{cur%%=*}}=
        cur=${{cur#*=}}
    fi
    if [[ -z $flag ]]; then
        COMPREPLY=($(compgen -W "$(_rp2pd_words "$command")" -- "${{cur/#--/-}}"))
        return
    fi
    takes=$(_rp2pd_takes "$command:$flag")
    case $takes in
        bools) COMPREPLY=($(compgen -P "$prefix" -W "true false" -- "$cur")) ;;
        files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -P "$prefix" -f -- "$cur")) ;;
        values*)
            COMPREPLY=($(compgen -P "$prefix" -W "${{takes#values}}" -- "$cur"))
            [[ ${{COMPREPLY[*]}} == */ ]] && compopt -o nospace 2>/dev/null
            ;;
    esac
}}
complete -F _rp2pd rp2pd p2pd
"#
    )
}

/// Between single quotes, for zsh and fish.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The script for zsh.
pub(super) fn zsh() -> String {
    let spec = |word: &Word| {
        let help = word.help.replace('[', r"\[").replace(']', r"\]");
        let (name, help) = (word.name, help.replace(':', r"\:"));
        let text = match &word.takes {
            Takes::Bool => format!("-{name}=-[{help}]::bool:(true false)"),
            Takes::Path => format!("-{name}=[{help}]:file:_files"),
            Takes::Values(list) => {
                let list = list.join(" ").replace(':', r"\:");
                format!("-{name}=[{help}]:value:({list})")
            }
            Takes::Text => format!("-{name}=[{help}]:value: "),
        };
        single(&text)
    };
    let specs = |words: &[Word], indent: &str| {
        let specs = words
            .iter()
            .map(|word| format!(" \\\n{indent}{}", spec(word)));
        specs.collect::<String>()
    };
    let mut described = String::new();
    let mut cases = String::new();
    for row in COMMANDS {
        // Writing to a String cannot fail.
        let pair = format!("{}:{}", row.word, row.summary.replace(':', r"\:"));
        let _ = writeln!(described, "                {}", single(&pair));
        let (words, flags) = of_command(row);
        let first = match words.is_empty() {
            true => String::new(),
            false => format!(" \\\n                    '1:word:({})'", words.join(" ")),
        };
        let flags = specs(&flags, "                    ");
        if !(first.is_empty() && flags.is_empty()) {
            let _ = writeln!(
                cases,
                "                {}) _arguments{flags}{first} ;;",
                row.word
            );
        }
    }
    let flags = specs(&daemon(), "        ");
    format!(
        r#"#compdef rp2pd p2pd
# Completions of rp2pd for zsh.
_rp2pd() {{
    local curcontext="$curcontext" state line
    local -a commands
    _arguments -C{flags} \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
{described}            )
            _describe command commands
            ;;
        rest)
            case $words[1] in
{cases}            esac
            ;;
    esac
}}
if [[ $funcstack[1] == _rp2pd ]]; then
    _rp2pd "$@"
else
    compdef _rp2pd rp2pd p2pd
fi
"#
    )
}

/// The script for fish.
pub(super) fn fish() -> String {
    let mut script = String::from("# Completions of rp2pd for fish.\ncomplete -c rp2pd -f\n");
    let none = format!("not __fish_seen_subcommand_from {}", names());
    let mut line = |condition: &str, rest: &str, help: &str| {
        let (condition, help) = (single(condition), single(help));
        // Writing to a String cannot fail.
        let _ = writeln!(script, "complete -c rp2pd -n {condition} {rest} -d {help}");
    };
    let rest = |word: &Word| match &word.takes {
        Takes::Bool => format!("-o {}", word.name),
        Takes::Path => format!("-o {} -r -F", word.name),
        Takes::Values(list) => format!("-o {} -x -a '{}'", word.name, list.join(" ")),
        Takes::Text => format!("-o {} -x", word.name),
    };
    for word in daemon() {
        line(&none, &rest(&word), word.help);
        if matches!(word.takes, Takes::Bool) {
            // The value is part of the word: fish has no flags with an optional value.
            let begun = format!(
                "{none}; and string match -q -- '-{}=*' (commandline -ct)",
                word.name
            );
            line(
                &begun,
                &format!("-a '-{0}=true -{0}=false'", word.name),
                word.help,
            );
        }
    }
    for row in COMMANDS {
        line(&none, &format!("-a {}", row.word), row.summary);
        let (words, flags) = of_command(row);
        let seen = format!("__fish_seen_subcommand_from {}", row.word);
        if !words.is_empty() {
            line(&seen, &format!("-a '{}'", words.join(" ")), row.summary);
        }
        for word in flags {
            line(&seen, &rest(&word), word.help);
        }
    }
    script
}
