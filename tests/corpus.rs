//! Replays the committed inputs of the fuzz targets (`fuzz/corpus`), and drives each target with
//! inputs derived from them.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use rp2pd::fuzzing::TARGETS;

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "support/random.rs"]
mod random;

use random::Random;

/// Inputs derived from each committed one.
const DERIVED: usize = 8;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn every_folder_belongs_to_a_target_and_holds_inputs() {
    let folders = fs::read_dir(corpus()).unwrap();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS.map(|(name, _)| name));
    for (name, _) in TARGETS {
        let count = inputs(name).len();
        assert!(count >= 10, "{name} has {count} inputs only");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        assert!(target.join(name).with_extension("rs").exists(), "{name}");
    }
}

#[test]
fn the_inputs_hold() {
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        for (path, input) in inputs(name) {
            if catch_unwind(|| target(&input)).is_err() {
                failures.push(path);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn inputs_derived_from_them_hold() {
    let mut random = Random::new("inputs_derived_from_them_hold");
    for (name, target) in TARGETS {
        for (path, input) in inputs(name) {
            for _ in 0..DERIVED {
                let mut derived = input.clone();
                spoil(&mut derived, &mut random);
                let ran = catch_unwind(|| target(&derived));
                let path = path.display();
                assert!(ran.is_ok(), "{name} fails on {derived:?}, made of {path}");
            }
        }
    }
}

/// Changes a few bytes, and sometimes the length.
fn spoil(input: &mut Vec<u8>, random: &mut Random) {
    if input.is_empty() {
        return;
    }
    for _ in 0..=random.below(3) {
        let at = random.below(input.len());
        input[at] = random.next().to_le_bytes()[0];
    }
    match random.below(4) {
        0 => input.truncate(random.below(input.len())),
        1 => {
            let tail = input[random.below(input.len())..].to_vec();
            input.extend(tail);
        }
        _ => {}
    }
}
