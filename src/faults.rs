//! Panics and hangs that tests ask for, at the places that supervision must survive. Debug builds only: a
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

/// Does not end for as long as the directory has a file `hang-` and the name of `place`.
#[cfg(debug_assertions)]
pub(crate) async fn hang(place: &str) {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let path = std::path::Path::new(&directory).join(format!("hang-{place}"));
    while path.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) async fn hang(_: &str) {}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn point(_: impl std::fmt::Display) {}
