//! The help of `-h`: what the program is, an example, and the flags in groups.

use std::fmt::Write as _;

use super::commands::{COMMANDS, Row};
use super::usage::{described, usage};
use crate::settings::{ALIASES, Flag, Given, SETTINGS};

/// Width of a line, in characters.
const WIDTH: usize = 100;

/// Column at which explanations begin.
const COLUMN: usize = 36;

/// The flags in groups, and where the rest is.
pub(super) fn help(program: &str) -> String {
    let mut text = format!(
        "Usage of {program}:\n\
         \x20 {program} [FLAGS]                        runs the daemon\n\
         \x20 {program} [-listen ADDRESS] COMMAND ...\n\n\
         Runs a libp2p host that programs on this machine drive over a socket, in the place of p2pd.\n\n\
         Example: peers connect on port 4001, programs at /tmp/p2pd.sock\n\
         \x20 {program} -hostAddrs=/ip4/0.0.0.0/tcp/4001 -id=identity -createIdentity\n\n\
         Commands:\n"
    );
    for row in COMMANDS {
        line(
            &mut text,
            &format!("{} {}", row.word, row.arguments),
            row.summary,
        );
    }
    let mut group = None;
    for setting in SETTINGS
        .iter()
        .filter(|setting| !setting.flag.name.is_empty())
    {
        if group != Some(setting.group) {
            group = Some(setting.group);
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{}:\n", setting.group.title());
        }
        let what = described(&setting.flag);
        line(&mut text, &names(&setting.flag), &what);
    }
    text.push_str(
        "\nA flag takes one dash or two, and its value after \"=\" or a blank; a bool only after \"=\".\n\
         Every setting with its JSON key: SETTINGS.md. The list that p2pd prints: ",
    );
    let _ = writeln!(text, "{program} -help");
    text
}

/// The help of one command.
pub(super) fn of_command(program: &str, row: &Row) -> String {
    let name = format!("{program} {}", row.word);
    if row.flags.is_empty() {
        let arguments = row.arguments;
        return format!("Usage of {name}:\n  {name} {arguments}\n{}\n", row.summary);
    }
    let flags: Vec<_> = row.flags.iter().collect();
    usage(&name, &flags, &[])
}

/// All names of a flag, and what it takes.
fn names(flag: &Flag<Given>) -> String {
    let mut text = format!("-{}", flag.name);
    for (alias, _) in ALIASES.iter().filter(|(_, name)| *name == flag.name) {
        let _ = write!(text, ", -{alias}");
    }
    if !flag.is_bool() {
        let _ = write!(text, " {}", flag.kind);
    }
    text
}

/// Two columns. The second is wrapped, and begins below a first that is too wide.
fn line(text: &mut String, left: &str, right: &str) {
    let mut line = format!("  {}", left.trim_end());
    let mut words = right.split(' ').peekable();
    if line.chars().count() + 2 > COLUMN {
        let _ = writeln!(text, "{line}");
        line.clear();
    }
    while let Some(word) = words.next() {
        let used = line.chars().count();
        if used < COLUMN {
            line.extend(std::iter::repeat_n(' ', COLUMN - used));
            line.push_str(word);
        } else {
            line.push(' ');
            line.push_str(word);
        }
        let next = words.peek().map_or(0, |word| 1 + word.chars().count());
        if line.chars().count() + next > WIDTH {
            let _ = writeln!(text, "{line}");
            line.clear();
        }
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{line}");
    }
}
