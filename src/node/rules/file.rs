//! The file of the rules: whole or not there, one JSON document.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    MAX_RULES,
    table::{Action, Rule, Subject, Table},
};

/// Permission bits of a new file: its owner's alone.
const MODE: u32 = 0o600;

/// Bits that let others write: a rule of theirs would be the operator's.
const OTHERS_WRITE: u32 = 0o022;

/// Longest file, in bytes: as many rules as there may be, and room for spaces.
const MAX_FILE: u64 = 1 << 20;

/// Why rules are not read or kept.
#[derive(Debug, thiserror::Error)]
pub enum RulesFileError {
    /// The system does not let us.
    #[error("rules {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// It is none of ours, or damaged.
    #[error("rules {}: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

pub(super) fn encode(table: &Table) -> String {
    let rules = table.list().into_iter().map(|rule| {
        let action = match rule.action {
            Action::Block => "block",
            Action::Allow => "allow",
        };
        match rule.subject {
            Subject::Peer(peer) => json!({"action": action, "peer": peer.to_string()}),
            Subject::Network(network) => json!({"action": action, "network": network.to_string()}),
            Subject::EveryPeer => json!({"action": action, "everyPeer": true}),
        }
    });
    let rules: Vec<Value> = rules.collect();
    format!("{:#}\n", json!({ "rules": rules }))
}

/// What the file holds, nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Table, RulesFileError> {
    let damaged = |reason| RulesFileError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::default()),
        opened => opened.map_err(|source| of_system(path, source))?,
    };
    let meta = file.metadata().map_err(|source| of_system(path, source))?;
    let mode = meta.mode() & 0o777;
    if mode & OTHERS_WRITE != 0 {
        return Err(damaged(format!("others can write it (mode {mode:04o})")));
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    read.map_err(|source| of_system(path, source))?;
    decode(&text).map_err(damaged)
}

fn decode(text: &str) -> Result<Table, String> {
    if text.len() as u64 > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let rules = document.get("rules").and_then(Value::as_array);
    let rules = rules.ok_or("no list \"rules\"")?;
    if rules.len() > MAX_RULES {
        return Err(format!("more than {MAX_RULES} rules"));
    }
    let mut table = Table::default();
    for rule in rules {
        table.insert(decode_rule(rule).ok_or_else(|| format!("no rule: {rule}"))?);
    }
    Ok(table)
}

fn decode_rule(rule: &Value) -> Option<Rule> {
    let text = |field| rule.get(field).and_then(Value::as_str);
    let subject = match (text("peer"), text("network")) {
        (Some(peer), None) => Subject::Peer(peer.parse().ok()?),
        (None, Some(network)) => Subject::Network(network.parse().ok()?),
        (None, None) if rule.get("everyPeer")?.as_bool()? => Subject::EveryPeer,
        _ => return None,
    };
    let action = match text("action")? {
        "block" => Action::Block,
        "allow" => Action::Allow,
        _ => return None,
    };
    Some(Rule { subject, action })
}

/// Replaces the file. An end at any moment leaves the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), RulesFileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", rand::random::<u64>()));
    let temporary = PathBuf::from(name);
    let replaced = replace(path, &temporary, text);
    if replaced.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&temporary);
    }
    replaced.map_err(|source| of_system(path, source))
}

fn replace(path: &Path, temporary: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn of_system(path: &Path, source: io::Error) -> RulesFileError {
    RulesFileError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("rules");
        assert!(read(&path).expect("none").is_empty());
        let mut table = Table::default();
        let network = "10.0.0.0/8".parse().expect("a network");
        for subject in [
            Subject::Peer(PeerId::random()),
            Subject::Network(network),
            Subject::EveryPeer,
        ] {
            let action = Action::Block;
            table.insert(Rule { subject, action });
        }
        for _ in 0..2 {
            write(&path, &encode(&table)).expect("write");
            assert_eq!(read(&path).expect("read").list(), table.list());
        }
        assert_eq!(fs::read_dir(directory.path()).expect("a list").count(), 1);
    }

    #[test]
    fn a_file_that_others_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("rules");
        write(&path, &encode(&Table::default())).expect("write");
        for (mode, accepted) in [(0o644, true), (0o620, false), (0o602, false), (0o600, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(read(&path).is_ok(), accepted, "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_list_of_rules_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"rules": [{"action": "block"}]}"#,
            r#"{"rules": [{"action": "drop", "everyPeer": true}]}"#,
            r#"{"rules": [{"action": "block", "network": "10.0.0.0/33"}]}"#,
            r#"{"rules": [{"action": "block", "peer": "a", "network": "10.0.0.0/8"}]}"#,
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
