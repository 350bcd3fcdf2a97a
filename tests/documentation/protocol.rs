//! PROTOCOL.md against `proto/p2pd.proto` and the sources.

use std::collections::{BTreeMap, BTreeSet};

use super::{integers, read, rows, sources, ticked, value};

/// A line of a message or of an enumeration: its number, and the label and type of a field.
type Line = (String, String);

/// The messages and enumerations that only rp2pd has, by their full names.
fn definitions(text: &str) -> BTreeMap<String, BTreeMap<String, Line>> {
    let (_, own) = text.split_once("// What only rp2pd has").expect("a part");
    let mut found = BTreeMap::<String, BTreeMap<String, Line>>::new();
    let mut names: Vec<String> = Vec::new();
    for line in own.lines().map(str::trim) {
        let words: Vec<&str> = line
            .split([' ', ';'])
            .filter(|word| !word.is_empty())
            .collect();
        match words[..] {
            ["message" | "enum", name, ..] => {
                names.push(name.into());
                found.insert(names.join("."), BTreeMap::new());
            }
            ["}"] => drop(names.pop()),
            [name, "=", number] => {
                let entry = found.get_mut(&names.join(".")).expect("inside");
                entry.insert(name.into(), (number.into(), String::new()));
            }
            [label, kind, name, "=", number] if !label.starts_with("//") => {
                let entry = found.get_mut(&names.join(".")).expect("inside");
                entry.insert(name.into(), (number.into(), format!("{label} {kind}")));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_messages_are_those_of_the_protocol() {
    let defined = definitions(&read("proto/p2pd.proto"));
    assert!(
        defined.len() > 5 && defined["Event.Kind"].len() > 5,
        "the reader is wrong"
    );
    let text = read("PROTOCOL.md");
    let mut told = 0;
    for part in text.split("\n### `").skip(1) {
        let (name, part) = part.split_once('`').expect("a name");
        let table = part.split("\n\n").nth(1).expect("a table");
        let lines: BTreeMap<String, Line> = rows(table)
            .into_iter()
            .filter(|row| row[0].starts_with('`'))
            .map(|row| {
                let kind = if row.len() > 3 { row[2] } else { "" };
                (ticked(row[0])[0].into(), (row[1].into(), kind.into()))
            })
            .collect();
        assert_eq!(Some(&lines), defined.get(name), "{name}");
        told += 1;
    }
    let mut wanted = roots(&text);
    assert!(!wanted.is_empty(), "the reader is wrong");
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        // A type of a request is a number on the wire.
        let inner = format!("{name}.");
        wanted.extend(
            defined
                .keys()
                .filter(|other| other.starts_with(&inner))
                .cloned(),
        );
        let is_told = text.contains(&format!("\n### `{name}`\n"));
        assert!(is_told, "{name} is not described");
        let kinds = defined[&name]
            .values()
            .filter_map(|(_, kind)| kind.split_once(' '));
        for (_, kind) in kinds {
            let nested = format!("{name}.{kind}");
            wanted.extend(
                [nested, kind.into()]
                    .into_iter()
                    .find(|name| defined.contains_key(name)),
            );
        }
    }
    assert_eq!(told, seen.len());
}

/// The messages that the described requests and answers are.
fn roots(text: &str) -> Vec<String> {
    let types = rows(text).into_iter().filter(|row| row.len() == 4);
    let types = types.filter(|row| row[1].parse().is_ok_and(|number: u32| number > 100));
    types
        .flat_map(|row| [row[2], row[3]].map(ticked))
        .flatten()
        .filter_map(|told| told.split_once(' '))
        .map(|(message, _)| message.to_owned())
        .collect()
}

#[test]
fn the_bounds_are_those_of_the_source() {
    let text = read("PROTOCOL.md");
    let mut compared = 0;
    for row in rows(&text) {
        let [bound, told, place, _] = row[..] else {
            continue;
        };
        let [name, file] = ticked(place)[..] else {
            continue;
        };
        if !file.starts_with("src/") {
            continue;
        }
        let source = read(file);
        let line = source
            .lines()
            .find(|line| line.contains(&format!("const {name}: ")))
            .unwrap_or_else(|| panic!("{bound}: no {name} in {file}"));
        let (_, expression) = line.split_once(" = ").expect("a value");
        assert_eq!(integers(told), [value(expression)], "{bound}: {line}");
        compared += 1;
    }
    assert!(compared > 1, "only {compared} bounds found");
}

#[test]
fn the_errors_are_those_of_the_source() {
    let text = read("PROTOCOL.md");
    let sources = sources(&["src"]);
    let mut found = 0;
    for table in text.split("\n| ERROR | ").skip(1) {
        let table = table.split("\n\n").next().expect("a table");
        for row in rows(table) {
            let Some(error) = ticked(row[0]).first().copied() else {
                continue;
            };
            let known = sources.iter().any(|(_, source)| source.contains(error));
            assert!(known, "no file has {error:?}");
            found += 1;
        }
    }
    assert!(found > 2, "only {found} errors found");
}
