//! Where the fuzz targets of `fuzz/` enter the program.
//!
//! Each target takes any bytes, drives one reader or state machine with them and compares what it
//! does with a model. `tests/corpus.rs` replays the committed inputs through the same functions,
//! so a change that breaks a target breaks `cargo test`. The daemon calls none of this.

use crate::{config, control, dht, identity, muxer, pubsub, streams, wire};

/// Drives a part of the program with the bytes.
///
/// # Panics
/// If the part does not do what its model does.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder below `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 10] = [
    ("control", control::fuzzing::requests),
    ("json", wire::fuzzing::json),
    ("kad", dht::fuzzing::messages),
    ("keys", identity::fuzzing::keys),
    ("launch", config::fuzzing::launch),
    ("multiaddr", wire::fuzzing::addresses),
    ("negotiation", streams::fuzzing::negotiation),
    ("persistent", control::fuzzing::operations),
    ("pubsub", pubsub::fuzzing::rpcs),
    ("tap", muxer::fuzzing::tap_sequences),
];

/// Runs one target by its name.
///
/// # Panics
/// As [`Target`], and if there is no target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    assert!(target.is_some(), "there is no fuzz target {name}");
    if let Some((_, target)) = target {
        target(data);
    }
}
