//! What the documents say of the program is true of the program: flags, limits, names of
//! tests, sections and files.

#[path = "documentation/protocol.rs"]
mod protocol;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rp2pd::fixed_limits::{Amount, FixedLimit};

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "COMPATIBILITY.md",
    "PROTOCOL.md",
    "SECURITY.md",
    "SETTINGS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benches/README.md",
    "packaging/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below the given folders, with its path from the root.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 1, "no sources found");
    files
}

/// What stands between backticks, outside of code blocks.
fn ticked(text: &str) -> Vec<&str> {
    text.split("```")
        .step_by(2)
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
        .collect()
}

/// The cells of every table row.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn every_test_named_exists() {
    let sources = sources(&["src", "tests"]);
    let mut named = 0;
    for document in ["COMPATIBILITY.md", "SECURITY.md"] {
        let text = read(document);
        for name in ticked(&text) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
            if !name.contains("::") || !name.chars().all(plain) {
                continue;
            }
            named += 1;
            let (modules, test) = name.rsplit_once("::").unwrap();
            let found = sources.iter().any(|(path, text)| {
                let path = path.with_extension("");
                let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
                modules
                    .split("::")
                    .filter(|module| *module != "tests")
                    .all(|module| parts.contains(&module))
                    && (text.contains(&format!("fn {test}("))
                        || text.contains(&format!("\"{test}\"")))
            });
            assert!(found, "{document} names {name}, which does not exist");
        }
    }
    assert!(named > 50, "only {named} names found: the reader is wrong");
}

/// Tables of sections 1 and 2 promise something in each row: it stands there who tries it.
#[test]
fn every_promise_names_its_test() {
    let text = read("SECURITY.md");
    let (_, promises) = text.split_once("\n# 1. ").unwrap();
    let (promises, _) = promises.split_once("\n# 3. ").unwrap();
    let mut found = 0;
    for row in rows(promises) {
        assert!(row.iter().all(|cell| cell.len() <= 340), "{row:?}");
        let [.., tests] = row[..] else {
            panic!("{row:?}")
        };
        if tests == "tests" || tests.starts_with("---") {
            continue;
        }
        assert!(
            ticked(&row.join(" "))
                .iter()
                .any(|name| name.contains("::")),
            "no test: {row:?}"
        );
        found += 1;
    }
    assert!(found > 90, "only {found} promises found");
}

#[test]
fn every_flag_is_in_the_table_and_no_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .arg("-help")
        .output()
        .unwrap();
    let usage = String::from_utf8(output.stderr).unwrap();
    let mut offered: BTreeSet<&str> = usage
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split([' ', '\t']).next())
        .filter(|word| word.starts_with('-'))
        .collect();
    // The two that Go's usage does not list either.
    offered.extend(["-h", "-help"]);
    let text = read("COMPATIBILITY.md");
    let (_, section) = text.split_once("\n## 1.1 ").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let told: BTreeSet<&str> = rows(section)
        .into_iter()
        .flat_map(|row| ticked(row[0]))
        .collect();
    assert!(offered.len() > 50);
    assert_eq!(told, offered);
}

/// `RP2PD_TEST_WRITE` in the environment makes the test write the document anew.
#[test]
fn the_settings_are_those_of_the_program() {
    let text = rp2pd::settings::document();
    if std::env::var_os("RP2PD_TEST_WRITE").is_some() {
        fs::write(root().join("SETTINGS.md"), &text).unwrap();
    }
    assert_eq!(read("SETTINGS.md"), text);
}

/// The integers in a text; underscores belong to them.
fn integers(text: &str) -> Vec<u64> {
    text.replace('_', "")
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The value of a constant's expression: a product, or one shift; the unit is another matter.
fn value(expression: &str) -> u64 {
    let numbers = integers(expression.split(" as ").next().unwrap());
    match expression.split_once("<<") {
        Some(_) => numbers[0] << numbers[1],
        None => numbers.iter().product(),
    }
}

#[test]
fn the_limits_are_those_of_the_source() {
    let text = read("SECURITY.md");
    let (_, section) = text.split_once("\n# 3. Limits").unwrap();
    let (section, _) = section.split_once("\n# 4. ").unwrap();
    let mut compared = 0;
    for row in rows(section) {
        let [limit, told, place, _] = row[..] else {
            panic!("not four cells: {row:?}")
        };
        let [name, file] = ticked(place)[..] else {
            continue;
        };
        let source = read(file);
        let constant = format!("const {name}: ");
        let field = format!("{name}: ");
        let line = source
            .lines()
            .find(|line| line.contains(&constant))
            .or_else(|| {
                let numbers = |line: &&str| !integers(line).is_empty();
                let mut lines = source.lines().filter(numbers);
                lines.find(|line| line.trim_start().starts_with(&field))
            })
            .unwrap_or_else(|| panic!("{limit}: no {name} in {file}"));
        let expression = line.split_once(" = ").or(line.split_once(": ")).unwrap().1;
        if expression.contains("clamp") {
            assert_eq!(integers(told), integers(expression), "{limit}: {line}");
        } else {
            assert_eq!(integers(told), [value(expression)], "{limit}: {line}");
        }
        compared += 1;
    }
    assert!(compared > 30, "only {compared} limits found");
}

/// What `-validate` prints of every limit in the document that is a constant of the source.
#[test]
fn every_fixed_limit_is_printed() {
    let output = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .args(["-validate", "-noListenAddrs"])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let declared = rp2pd::fixed_limits::all();
    for limit in &declared {
        let value = match limit.amount {
            Amount::Count(value) | Amount::Bytes(value) => value.to_string(),
            Amount::Time(time) => time.as_secs_f64().to_string(),
        };
        let rest = |line| {
            let rest: &str = str::strip_prefix(line, limit.text)?;
            let value = rest.trim_start();
            let is_value =
                value.len() < rest.len() && value.starts_with(|c: char| c.is_ascii_digit());
            is_value.then_some(rest)
        };
        let line = printed.lines().find_map(rest);
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words.first(), Some(&value.as_str()), "{limit:?}");
        assert_eq!(words.last(), Some(&"fixed"), "{limit:?}");
    }
    // Printed in other rows, with what they lead to in this process.
    const DERIVED: [&str; 17] = [
        "ALL_SHARE",
        "CLIENTS_FRAMES",
        "CLIENTS_SHARE",
        "CUT_AT",
        "DEFAULT_MAX_FRAME",
        "HANDLER_RESERVE",
        "HOLDER_SHARE",
        "KERNEL",
        "MAX_INBOUND",
        "MAX_STREAMS",
        "PER_PEER",
        "PLACES_SHARE",
        "PREFIX_SHARE",
        "QUIC_SHARE",
        "REFUSE_AT",
        "RESERVE",
        "TRIM_AT",
    ];
    let mut found = 0;
    let text = read("SECURITY.md");
    let (_, section) = text.split_once("\n# 3. Limits").unwrap();
    let (section, _) = section.split_once("\n# 4. ").unwrap();
    for row in rows(section) {
        let ticked = ticked(row[2]);
        let Some((file, names)) = ticked
            .split_last()
            .filter(|(file, _)| file.starts_with("src/"))
        else {
            continue;
        };
        for name in names {
            let constant = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            if !constant || DERIVED.contains(name) {
                continue;
            }
            let known = |limit: &&FixedLimit| limit.constant == *name && limit.file == *file;
            assert!(
                declared.iter().any(|one| known(&one)),
                "{name} in {file} is not printed by -validate: declare it by fixed_limit! there"
            );
            found += 1;
        }
    }
    assert!(found > 200, "only {found} found");
}

#[test]
fn sections_that_the_source_refers_to_exist() {
    let mut found = 0;
    for document in ["COMPATIBILITY.md", "SECURITY.md"] {
        let text = read(document);
        let sections: BTreeSet<&str> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .filter_map(|line| line.trim_start_matches('#').split_whitespace().next())
            .map(|number| number.trim_end_matches('.'))
            .collect();
        for (path, text) in sources(&["src"]) {
            for rest in text.split(&format!("{document} ")).skip(1) {
                let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next();
                let number = number.unwrap().trim_end_matches('.');
                assert!(
                    sections.contains(number),
                    "{}: {document} has no section {number:?}",
                    path.display()
                );
                found += 1;
            }
        }
    }
    assert!(found > 10, "only {found} references found");
}

#[test]
fn links_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = root().join(document);
        let folder = folder.parent().unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            let target = target.split('#').next().unwrap();
            if !target.starts_with("http") && !target.is_empty() {
                assert!(folder.join(target).exists(), "{document}: {target}");
            }
        }
    }
}

#[test]
fn the_readme_shows_the_example_that_is_tested() {
    let readme = read("README.md");
    let (_, shown) = readme.split_once("```python\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert_eq!(shown, read("packaging/python/examples/echo.py"));
}

/// The image from the sources and the one from a binary are the same image.
#[test]
fn both_images_have_the_same_end() {
    let last_stage = |path: &str| {
        let text = read(path);
        let (_, stage) = text.split_once("\nUSER ").expect("a user");
        stage.to_owned()
    };
    assert_eq!(
        last_stage("Dockerfile"),
        last_stage("packaging/container/Dockerfile")
    );
}

/// The packages carry the version of the program, and the units what the program has.
#[test]
fn the_packages_fit_the_program() {
    let usage = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .arg("-help")
        .output()
        .unwrap();
    let usage = String::from_utf8(usage.stderr).unwrap();
    let mut flags = 0;
    for path in [
        "packaging/systemd/rp2pd.service",
        "packaging/debian/default",
        "packaging/container/Dockerfile",
        "packaging/container/sidecar.yaml",
    ] {
        let text = read(path);
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split([' ', '"', '=', '[', ',', ']']));
        for word in words.filter(|word| word.starts_with('-') && !word.starts_with("--")) {
            let name = word.trim_start_matches('-');
            if name.len() > 1 && name.chars().all(|c| c.is_ascii_alphabetic()) {
                flags += 1;
                let known = [' ', '\n', '\t'].map(|end| format!("\n  -{name}{end}"));
                assert!(
                    known.iter().any(|flag| usage.contains(flag)),
                    "{path}: {word}"
                );
            }
        }
    }
    assert!(flags > 8, "only {flags} found");
}
