//! The words that ask for something else than a daemon.

use super::flags;
use crate::settings::Flag;

/// The first word that asks for the usage text.
pub(super) const HELP: &str = "help";

/// The shells that there are completions for.
pub(super) const SHELLS: &str = "bash|elvish|fish|powershell|zsh";

/// What a word asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Keygen,
    Status,
    Ping,
    Probe,
    Call,
    Forward,
    Expose,
    Tunnels,
    Completions,
    Manual,
    Version,
    Help,
}

/// A word, and what it does.
pub(super) struct Row {
    pub(super) word: &'static str,
    /// What may follow it, as a usage text writes it.
    pub(super) arguments: &'static str,
    /// One line on what it does.
    pub(super) summary: &'static str,
    /// Flags of its own.
    pub(super) flags: &'static [Flag<super::KeygenArgs>],
    pub(super) kind: Kind,
}

/// The words, in the order in which the help shows them.
pub(super) const COMMANDS: &[Row] = &[
    Row {
        word: "keygen",
        arguments: "[-t TYPE] [-f FILE]",
        summary: "makes a key file, which -id then names",
        flags: flags::KEYGEN,
        kind: Kind::Keygen,
    },
    Row {
        word: "status",
        arguments: "[-listen ADDRESS] [--json]",
        summary: "tells what a running daemon knows: peers, traffic, topics, limits",
        flags: &[],
        kind: Kind::Status,
    },
    Row {
        word: "ping",
        arguments: "[-listen ADDRESS] PEER|ADDRESS",
        summary: "has a running daemon ping a peer four times",
        flags: &[],
        kind: Kind::Ping,
    },
    Row {
        word: "probe",
        arguments: "[-listen ADDRESS] PEER|ADDRESS...",
        summary: "has a running daemon dial each address of a peer, and tells what each answers",
        flags: &[],
        kind: Kind::Probe,
    },
    Row {
        word: "call",
        arguments: "[-listen ADDRESS] REQUEST [FIELD=VALUE...|JSON]",
        summary: "sends a running daemon one request, as in: call connect peer=ID addrs=ADDRESS; the answer is JSON",
        flags: &[],
        kind: Kind::Call,
    },
    Row {
        word: "expose",
        arguments: "[-listen ADDRESS] [--keep] NAME PORT|ADDRESS PEER...|--any-peer",
        summary: "lets peers use a service of this host by the name, until it is interrupted, or with --keep until the daemon ends",
        flags: &[],
        kind: Kind::Expose,
    },
    Row {
        word: "forward",
        arguments: "[-listen ADDRESS] [--keep] NAME PEER|ADDRESS [PORT|ADDRESS]",
        summary: "carries a port of this host to the service that a peer exposes by the name, in the same way",
        flags: &[],
        kind: Kind::Forward,
    },
    Row {
        word: "tunnels",
        arguments: "[-listen ADDRESS] [close NUMBER...]",
        summary: "tells what is exposed and forwarded, or ends some of it",
        flags: &[],
        kind: Kind::Tunnels,
    },
    Row {
        word: "completions",
        arguments: SHELLS,
        summary: "prints a shell's completion script",
        flags: &[],
        kind: Kind::Completions,
    },
    Row {
        word: "man",
        arguments: "",
        summary: "prints the manual page: rp2pd man | man -l -",
        flags: &[],
        kind: Kind::Manual,
    },
    Row {
        word: "version",
        arguments: "",
        summary: "prints the version",
        flags: &[],
        kind: Kind::Version,
    },
    Row {
        word: HELP,
        arguments: "[COMMAND]",
        summary: "prints this, or the help of a command",
        flags: &[],
        kind: Kind::Help,
    },
];
