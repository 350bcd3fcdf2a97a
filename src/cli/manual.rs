//! Shell completions and the manual page, from the table that the parser reads.
//!
//! clap cannot read Go's flag syntax, but it knows how to describe a command line; every flag
//! is also accepted with the two dashes that it writes.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;

use super::{KEYGEN, flags};
use crate::settings::{self, ALIASES, Flag};

/// The first word that asks for a completion script.
pub(super) const COMPLETIONS: &str = "completions";
/// The first word that asks for the manual page.
pub(super) const MANUAL: &str = "man";

/// The completion script for the named shell.
///
/// # Errors
/// The words that tell which shells there are.
pub(super) fn completions(shell: Option<OsString>) -> Result<String, String> {
    let name = shell.unwrap_or_default();
    let shell = name
        .to_str()
        .and_then(|name| name.parse::<Shell>().ok())
        .ok_or_else(|| format!("usage: rp2pd {COMPLETIONS} bash|elvish|fish|powershell|zsh"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rp2pd", &mut script);
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The manual page in roff.
pub(super) fn manual() -> String {
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = clap_mangen::Man::new(command()).render(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}

fn command() -> Command {
    let daemon = describe(
        Command::new("rp2pd").version(env!("CARGO_PKG_VERSION")),
        settings::flags(),
    )
    .about("The libp2p daemon: runs a libp2p host and lets local programs drive it over a socket")
    .long_about(
        "Runs a libp2p host that local programs drive over a control socket with the p2pd \
         protocol. Flags follow Go's syntax: one dash or two, bools take their value only \
         after '=', parsing stops at the first word that is no flag.",
    );
    ALIASES
        .iter()
        .fold(daemon, |daemon, (alias, name)| {
            daemon.mut_arg(*name, |arg| arg.visible_alias(*alias))
        })
        .disable_help_subcommand(true)
        .subcommand(describe(
            Command::new(KEYGEN).about("Writes a new key file"),
            flags::KEYGEN.iter(),
        ))
        .subcommand(Command::new(COMPLETIONS).about("Prints a shell's completion script"))
        .subcommand(Command::new(MANUAL).about("Prints this page in roff"))
}

fn describe<T: 'static>(
    command: Command,
    table: impl IntoIterator<Item = &'static Flag<T>>,
) -> Command {
    let described = table.into_iter().filter(|flag| flag.name != "version");
    described.fold(command, |command, flag| {
        let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
        command.arg(if flag.is_bool() {
            arg.action(ArgAction::SetTrue)
        } else {
            let arg = arg.value_name(flag.kind).action(ArgAction::Set);
            let arg = match flag.name {
                "f" | "id" => arg.value_hint(ValueHint::FilePath),
                _ => arg,
            };
            match (flag.default)().as_str() {
                "" => arg,
                default => arg.help(format!("{} (default {default})", flag.help)),
            }
        })
    })
}
