use std::collections::BTreeMap;

use super::*;

#[test]
fn every_flag_key_and_alias_stands_once() {
    let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.flag.name).collect();
    names.extend(ALIASES.iter().map(|(alias, _)| *alias));
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    let keys = SETTINGS.iter().flat_map(|setting| setting.json.split('|'));
    let mut keys: Vec<_> = keys.filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    for list in [names, keys] {
        assert!(list.len() > 40);
        let twice = list.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None);
    }
    assert!(SETTINGS.is_sorted_by_key(|setting| setting.group));
}

/// The same value by flag and by key is the same value, and each is its own source.
#[test]
fn flag_and_key_fill_the_same_field() {
    for setting in SETTINGS {
        if setting.flag.name.is_empty() || setting.json.is_empty() {
            continue;
        }
        let (typed, json) = match setting.flag.kind {
            "" => ("true", "true"),
            "string" if setting.json.contains("Addresses") || setting.json.contains("Peers") => {
                ("/ip4/1.1.1.1/tcp/1", r#"["/ip4/1.1.1.1/tcp/1"]"#)
            }
            "string" => ("/unix/x", r#""/unix/x""#),
            "duration" => ("7s", r#""7s""#),
            "size" => ("7KiB", r#""7KiB""#),
            _ => ("7", "7"),
        };
        let mut flags = Given::default();
        (setting.flag.set)(&mut flags, OsStr::new(typed)).unwrap();
        for key in setting.json.split('|') {
            let depth = key.matches('.').count() + 1;
            let text = format!(
                "{{\"{}\": {json}{}",
                key.replace('.', "\": {\""),
                "}".repeat(depth)
            );
            let file = Given::from_json(text.as_bytes(), &mut Vec::new()).unwrap();
            let values = |flags: &Given, file: &Given| Values::settle(flags, file);
            let none = Given::default();
            let (by_flag, by_file) = (values(&flags, &none), values(&none, &file));
            let shown = |values: &Values| {
                // An address keeps the key that it came from.
                let text = format!("{values:?}");
                text.replace(&format!("Some(\"Config.{key}\")"), "None")
                    .replace(&format!("Some(\"Config.{key}[0]\")"), "None")
            };
            assert_eq!(shown(&by_flag), shown(&by_file), "{key}");
            let sources = Sources::of(&none, &file);
            assert_eq!(sources.source(setting.flag.name), Source::File, "{key}");
        }
        let sources = Sources::of(&flags, &Given::default());
        assert_eq!(sources.source(setting.flag.name), Source::Flag);
    }
}

#[test]
fn every_default_that_is_shown_reads_back_as_no_change() {
    let mut shown = 0;
    for setting in SETTINGS {
        let default = (setting.flag.default)();
        if default.is_empty() {
            continue;
        }
        shown += 1;
        let mut given = Given::default();
        (setting.flag.set)(&mut given, OsStr::new(&default)).unwrap();
        assert!(!(setting.is_changed)(&given), "-{}", setting.flag.name);
    }
    assert!(shown > 25, "{shown}");
}

/// The default that a cell gives for one flag; `None` if it gives it in words.
fn told_default(text: &str) -> Option<String> {
    let text = text.trim().split(':').next().unwrap_or_default();
    let text = text.trim_matches(['`', '*']);
    let is_number = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(' ');
    match text {
        "none" => Some(String::new()),
        "false" | "true" | "yamux" | "gossipsub" => Some(text.to_owned()),
        _ if text.starts_with('/') || is_number => Some(text.to_owned()),
        _ => None,
    }
}

/// The flags of COMPATIBILITY.md 1.1, and the defaults that it gives for them.
fn told_flags() -> BTreeMap<String, Option<String>> {
    let text = include_str!("../../COMPATIBILITY.md");
    let (_, text) = text.split_once("\n## 1.1 Flags\n").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `-")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let names = cells[1]
            .split('`')
            .filter_map(|part| part.strip_prefix('-'));
        let (aliases, flags): (Vec<_>, Vec<_>) =
            names.partition(|name| ALIASES.iter().any(|(alias, _)| alias == name));
        for alias in aliases {
            let (_, name) = ALIASES.iter().find(|(known, _)| *known == alias).unwrap();
            assert!(flags.contains(name), "-{alias} is not beside -{name}");
            found.insert(alias.to_owned(), None);
        }
        let mut defaults: Vec<_> = cells[2].split([',', ';']).map(told_default).collect();
        // One for all, or one for each.
        if defaults.len() == 1 {
            defaults = vec![defaults[0].clone(); flags.len()];
        }
        for (number, flag) in flags.into_iter().enumerate() {
            let told = defaults.get(number).cloned().flatten();
            assert_eq!(found.insert(flag.to_owned(), told), None, "-{flag}: twice");
        }
    }
    found
}

#[test]
fn the_table_of_flags_in_compatibility_md_is_that_of_the_program() {
    let mut told = told_flags();
    let mut compared = 0;
    for setting in SETTINGS.iter().filter(|row| !row.flag.name.is_empty()) {
        let name = setting.flag.name;
        let cell = told.remove(name);
        let cell = cell.unwrap_or_else(|| panic!("-{name} is not in COMPATIBILITY.md"));
        let default = match (setting.flag.default)() {
            default if default.is_empty() && setting.flag.is_bool() => "false".to_owned(),
            default => default,
        };
        if let Some(cell) = cell {
            let zero = cell == "0" && ["", "0s"].contains(&default.as_str());
            assert!(
                cell == default || zero,
                "-{name}: told {cell:?}, it is {default:?}"
            );
            compared += 1;
        }
    }
    for (alias, _) in ALIASES {
        assert!(
            told.remove(*alias).is_some(),
            "-{alias} is not in COMPATIBILITY.md"
        );
    }
    let left: Vec<_> = told.keys().collect();
    assert_eq!(left, ["h", "help"]);
    assert!(compared > 50, "{compared} defaults compared");
}
