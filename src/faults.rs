//! Panics that tests ask for, at the places that supervision must survive. Debug builds only: a
//! release build contains nothing of this.

/// The environment variable that names a directory. A file in it with the name of a place makes
/// that place panic once.
#[cfg(debug_assertions)]
const DIRECTORY: &str = "RP2PD_TEST_PANICS";

/// Panics if a test wants `place` to.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "it is asked for")]
pub(crate) fn point(place: impl std::fmt::Display) {
    use std::{path::PathBuf, sync::LazyLock};

    static WANTED: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(DIRECTORY).map(PathBuf::from));
    if let Some(directory) = &*WANTED
        // Of all that see the file, the one that removes it.
        && std::fs::remove_file(directory.join(place.to_string())).is_ok()
    {
        panic!("a test wants this: {place}");
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn point(_: impl std::fmt::Display) {}
