//! Readers that wait while nobody counts what comes for them: memory may grow without a sign.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many there are.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// One of them, for as long as it waits. Memory is looked at more often meanwhile.
#[derive(Debug)]
pub(crate) struct Unseen(());

impl Unseen {
    pub(crate) fn new() -> Self {
        if READERS.fetch_add(1, Relaxed) == 0 {
            super::received::wake();
        }
        Self(())
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Relaxed);
    }
}

/// Whether there is one.
pub(super) fn any() -> bool {
    READERS.load(Relaxed) > 0
}
