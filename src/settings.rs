//! The settings of the daemon: one table, from which everything that names a setting comes.
//!
//! [`table`] says of each its flag, JSON key, type, default, unit, who reads it and what it does.
//! From there come the readers of the command line and of the JSON file, the usage text, the
//! manual page, the completions, the sources that `-validate` shows, the notices on what has no
//! effect, and SETTINGS.md.

mod document;
pub mod duration;
mod json;
mod macros;
mod table;
mod value;

use std::ffi::OsStr;

pub use document::document;
pub use json::JsonError;
pub(crate) use table::values_of;
pub use table::{ALIASES, Given, Values};
pub use value::{AddrError, AddrList, AddrText, ByteSize, FileMode, GoDuration, ValueError};

use json::{Found, Object};
pub(crate) use table::SETTINGS;
pub(crate) use value::Value;

/// One flag of a command whose values are gathered in a `T`.
pub(crate) struct Flag<T: 'static> {
    /// Name without dashes; case matters. Empty for a setting of the JSON file alone.
    pub(crate) name: &'static str,
    /// What kind of value it takes, as the usage text calls it; empty for a bool.
    pub(crate) kind: &'static str,
    /// Default as typed on a command line; empty where Go's usage would not show it.
    pub(crate) default: fn() -> String,
    /// What the usage text says.
    pub(crate) help: &'static str,
    /// Whether it names a file.
    pub(crate) is_path: bool,
    /// Reads a value and stores it.
    pub(crate) set: fn(&mut T, &OsStr) -> Result<(), ValueError>,
}

impl<T> Flag<T> {
    pub(crate) fn is_bool(&self) -> bool {
        self.kind.is_empty()
    }
}

/// One row of the table.
pub(crate) struct Setting {
    /// The flag.
    pub(crate) flag: Flag<Given>,
    /// The JSON key with the keys that lead to it, joined by dots; alternatives joined by `|`;
    /// empty if the file cannot set it.
    pub(crate) json: &'static str,
    /// Unit of a number.
    pub(crate) unit: &'static str,
    /// Who reads it.
    pub(crate) group: Group,
    /// Whether anything reads it.
    pub(crate) effect: Effect,
    /// Reads the value of the JSON key and stores it.
    pub(crate) set_json: fn(&mut Given, &Found, &mut Vec<String>) -> Result<(), JsonError>,
    /// Whether it was given.
    pub(crate) is_given: fn(&Given) -> bool,
    /// Whether it was given a value that differs from its default.
    pub(crate) is_changed: fn(&Given) -> bool,
}

/// The part of the daemon that reads a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The program, before anything else.
    Program,
    /// The control socket and its clients.
    Control,
    /// The libp2p host: identity, addresses, transports, security.
    Host,
    /// Connections, streams, memory.
    Limits,
    /// Joining a network, and the DHT.
    Dht,
    /// Pubsub.
    PubSub,
    /// Address translation, reachability, circuit relay.
    Relay,
    /// Nobody.
    Old,
}

impl Group {
    /// What it is called in texts.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Program => "Program",
            Self::Control => "Control socket",
            Self::Host => "Host",
            Self::Limits => "Limits",
            Self::Dht => "Bootstrap and DHT",
            Self::PubSub => "Pubsub",
            Self::Relay => "Relay and reachability",
            Self::Old => "Accepted for old clients, without effect",
        }
    }
}

/// What comes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is obeyed.
    Works,
    /// It exists for old clients alone.
    Old,
}

/// Who has set a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The JSON file.
    File,
    /// Nobody.
    Default,
}

/// Who has set which setting.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    flags: Vec<&'static str>,
    keys: Vec<&'static str>,
}

impl Sources {
    pub(crate) fn of(flags: &Given, file: &Given) -> Self {
        let given = |given: &Given| {
            let settings = SETTINGS.iter().filter(|setting| (setting.is_given)(given));
            settings.map(|setting| setting.flag.name).collect()
        };
        Self {
            flags: given(flags),
            keys: given(file),
        }
    }

    /// Who has set the setting with this flag.
    #[must_use]
    pub fn source(&self, flag: &str) -> Source {
        if self.flags.contains(&flag) {
            Source::Flag
        } else if self.keys.contains(&flag) {
            Source::File
        } else {
            Source::Default
        }
    }
}

/// The flags of the daemon.
pub(crate) fn flags() -> Vec<&'static Flag<Given>> {
    let named = SETTINGS.iter().map(|setting| &setting.flag);
    named.filter(|flag| !flag.name.is_empty()).collect()
}

impl Given {
    /// Reads a JSON text in the shape of Go's `config.Config`. What the operator should know is
    /// added to `notices`.
    ///
    /// # Errors
    /// [`JsonError`]: no JSON, or a value of a wrong type.
    pub fn from_json(text: &[u8], notices: &mut Vec<String>) -> Result<Self, JsonError> {
        let root = Object::parse(text)?;
        let mut given = Self::default();
        let with_key = SETTINGS.iter().filter(|setting| !setting.json.is_empty());
        for setting in with_key {
            if let Some(found) = root.value(setting.json)? {
                (setting.set_json)(&mut given, &found, notices)?;
            }
        }
        let known = SETTINGS.iter().flat_map(|setting| setting.json.split('|'));
        notices.extend(root.unknown(&known.collect::<Vec<_>>()));
        Ok(given)
    }
}

/// A flag displaces the file.
fn over<T: Value>(flag: Option<T>, file: Option<T>) -> Option<T> {
    flag.or(file)
}

/// As [`over`], but empty text counts as absent, as in Go.
fn not_empty<T: Value>(flag: Option<T>, file: Option<T>) -> Option<T> {
    let given = |value: &T| *value != T::default();
    flag.filter(given).or(file.filter(given))
}

/// Most switches of the command line only switch on; one given as false leaves the file's value
/// alone, as in Go.
fn switch(flag: Option<bool>, file: Option<bool>) -> Option<bool> {
    Some(flag == Some(true) || file == Some(true))
}

#[cfg(test)]
mod tests;
