//! What the words after `forward`, `expose` and `tunnels` ask for.

use std::ffi::OsString;

use super::{Command, Question, Stop, invocation::Invocation};

/// A port of this host that leads to a peer.
pub(super) fn forward(invocation: &Invocation) -> Result<Command, Stop> {
    let (keep, words) = take("keep", &invocation.words);
    let (daemon, words) = invocation.daemon(words)?;
    let [name, peer, rest @ ..] = &words[..] else {
        return Err(invocation.refused("name the service, and the peer that exposes it"));
    };
    invocation.none_left(rest.get(1..).unwrap_or_default())?;
    let question = Question::Forward {
        name: text(name),
        peer: text(peer),
        listen: rest.first().map(text),
        keep,
    };
    Ok(Command::Ask(daemon, question))
}

/// A service of this host that peers may use.
pub(super) fn expose(invocation: &Invocation) -> Result<Command, Stop> {
    let (keep, words) = take("keep", &invocation.words);
    let (any, words) = take("any-peer", &words);
    let (daemon, words) = invocation.daemon(words)?;
    let [name, target, peers @ ..] = &words[..] else {
        return Err(invocation.refused("name the service, and its port"));
    };
    match (any, peers) {
        (false, []) => {
            return Err(invocation.refused("name the peers that may use it, or say --any-peer"));
        }
        (true, peers) => invocation.none_left(peers)?,
        (false, _) => {}
    }
    let question = Question::Expose {
        name: text(name),
        target: text(target),
        allow: peers.iter().map(text).collect(),
        keep,
    };
    Ok(Command::Ask(daemon, question))
}

/// What there is, or what of it is to end.
pub(super) fn tunnels(invocation: &Invocation) -> Result<Command, Stop> {
    let (daemon, words) = invocation.daemon(invocation.words.clone())?;
    let Some((word, numbers)) = words.split_first() else {
        return Ok(Command::Ask(daemon, Question::Tunnels));
    };
    if word != "close" {
        invocation.none_left(&words)?;
    }
    let numbers: Option<Vec<u64>> = numbers
        .iter()
        .map(|word| word.to_str()?.parse().ok())
        .collect();
    match numbers {
        Some(numbers) if !numbers.is_empty() => {
            Ok(Command::Ask(daemon, Question::CloseTunnels(numbers)))
        }
        _ => Err(invocation.refused("name tunnels by the numbers that `tunnels` shows")),
    }
}

fn text(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}

/// Whether `--flag` is among the words, and the others.
fn take(flag: &str, words: &[OsString]) -> (bool, Vec<OsString>) {
    let is_flag = |word: &&OsString| {
        let word = word.to_str().and_then(|word| word.strip_prefix('-'));
        word.is_some_and(|word| word.strip_prefix('-').unwrap_or(word) == flag)
    };
    let (found, others): (Vec<_>, Vec<_>) = words.iter().partition(is_flag);
    (!found.is_empty(), others.into_iter().cloned().collect())
}
