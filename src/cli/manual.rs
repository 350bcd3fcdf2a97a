//! The manual page, and completions for the shells that clap knows well enough.
//!
//! clap cannot read Go's flag syntax, but it knows how to describe a command line. What it writes
//! with two dashes is rewritten to one, as the documents have it.

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser};
use clap_complete::Shell;

use super::commands::COMMANDS;
use super::completions::{bash, fish, zsh};
use crate::settings::{ALIASES, Flag, SETTINGS, values_of};

/// What the page says below the flags.
const MORE: &str = "\
Example: peers connect on port 4001, programs at /tmp/p2pd.sock, and the identity is kept.

    rp2pd -hostAddrs=/ip4/0.0.0.0/tcp/4001 -id=identity -createIdentity

Signals: SIGTERM, SIGINT and SIGHUP end the daemon after open streams have drained, a second one \
at once. SIGUSR1 prints a report on stderr.

Exit status: 0 after an end that was asked for, 1 when the start was refused, with the reason in \
the last line of stderr, 2 for a wrong command line, 70 when the daemon is broken.

Environment: GOLOG_LOG_LEVEL, GOLOG_LOG_FMT, GOLOG_FILE, GOLOG_OUTPUT and RUST_LOG say what is \
logged, and where.";

/// The completion script for the named shell, if there is one.
pub(super) fn completions(shell: &str) -> Option<String> {
    let shell = match shell {
        "bash" => return Some(bash()),
        "fish" => return Some(fish()),
        "zsh" => return Some(zsh()),
        "elvish" => Shell::Elvish,
        "powershell" => Shell::PowerShell,
        _ => return None,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rp2pd", &mut script);
    Some(String::from_utf8_lossy(&script).replace("--", "-"))
}

/// The manual page in roff.
pub(super) fn manual() -> String {
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = clap_mangen::Man::new(command()).render(&mut page);
    String::from_utf8_lossy(&page).replace("\\-\\-", "\\-")
}

fn command() -> Command {
    let mut daemon = Command::new("rp2pd")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .about(
            "The libp2p daemon: runs a libp2p host and lets local programs drive it over a socket",
        )
        .long_about(
            "Runs a libp2p host that local programs drive over a control socket with the p2pd \
             protocol. A flag takes one dash or two. Its value follows after '=' or a blank, that \
             of a bool only after '='. A word that is no flag is a command, and ends the flags.",
        )
        .after_long_help(MORE);
    for setting in SETTINGS
        .iter()
        .filter(|setting| !setting.flag.name.is_empty())
    {
        let arg = described(&setting.flag).help_heading(setting.group.title());
        daemon = daemon.arg(with_aliases(arg, setting.flag.name));
    }
    for row in COMMANDS {
        let command = Command::new(row.word)
            .about(row.summary)
            .disable_help_flag(true);
        daemon = daemon.subcommand(row.flags.iter().map(described).fold(command, Command::arg));
    }
    daemon
}

/// The page of clap_mangen leaves aliases out, so the text names them.
fn with_aliases(arg: Arg, name: &str) -> Arg {
    let aliases: Vec<_> = ALIASES
        .iter()
        .filter_map(|(alias, target)| (*target == name).then_some(*alias))
        .collect();
    if aliases.is_empty() {
        return arg;
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let spelled: Vec<_> = aliases.iter().map(|alias| format!("-{alias}")).collect();
    arg.visible_aliases(aliases)
        .help(format!("{help}; also {}", spelled.join(", ")))
}

fn described<T>(flag: &Flag<T>) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name);
    if flag.is_bool() {
        return arg
            .action(ArgAction::SetTrue)
            .help(super::usage::described(flag));
    }
    let arg = arg.value_name(flag.kind).action(ArgAction::Set);
    let arg = match values_of(flag.name) {
        [] => arg,
        values => arg.value_parser(PossibleValuesParser::new(values)),
    };
    let arg = match flag.is_path {
        true => arg.value_hint(ValueHint::FilePath),
        false => arg,
    };
    arg.help(super::usage::described(flag))
}
