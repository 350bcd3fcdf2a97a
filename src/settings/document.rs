//! SETTINGS.md: the table as a document.

use std::fmt::Write as _;

use super::{ALIASES, SETTINGS, Setting};

/// The text of SETTINGS.md.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Written by the program from its table (`src/settings/table.rs`); a test compares. What a\n\
         setting means to clients, and where it differs from the Go daemons, is in\n\
         [COMPATIBILITY.md](COMPATIBILITY.md).\n\n\
         A flag displaces the key of the JSON file (`-f`, `-i`). A size takes a unit: `B`, `kB`, `MB`,\n\
         `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`. A duration takes one or more: `1h2m3.5s`.\n",
    );
    let mut group = None;
    for setting in SETTINGS {
        if group != Some(setting.group) {
            group = Some(setting.group);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n## {}\n\n| flag | JSON key | type | default | what |\n|---|---|---|---|---|\n",
                setting.group.title()
            );
        }
        text.push_str(&row(setting));
    }
    text
}

fn row(setting: &Setting) -> String {
    let flag = &setting.flag;
    let code = |text: &str| match text {
        "" => String::new(),
        text => format!("`{text}`"),
    };
    let mut names = match flag.name {
        "" => Vec::new(),
        name => vec![format!("`-{name}`")],
    };
    let aliases = ALIASES.iter().filter(|(_, name)| *name == flag.name);
    names.extend(aliases.map(|(alias, _)| format!("`-{alias}`")));
    let keys: Vec<_> = setting.json.split('|').map(code).collect();
    let kind = match (flag.kind, setting.unit) {
        ("", _) => "bool".into(),
        (kind, "" | "bytes" | "duration") => kind.to_owned(),
        (kind, unit) => format!("{kind}, {unit}"),
    };
    let help = flag.help.replace('|', "\\|");
    format!(
        "| {} | {} | {kind} | {} | {help} |\n",
        names.join(", "),
        keys.join(", "),
        match (flag.is_bool(), (flag.default)().as_str()) {
            (true, "") => code("false"),
            (_, default) => code(default),
        },
    )
}
