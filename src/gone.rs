//! Whether a client has gone before what it has here is dropped.

use std::{fmt, sync::OnceLock};

/// Asks the client's socket. Clients close and ask for something else in the same moment.
#[derive(Default)]
pub(crate) struct Probe(OnceLock<Box<dyn Fn() -> bool + Send + Sync>>);

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    /// `is_gone` tells it from now on.
    pub(crate) fn set(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(is_gone));
    }

    /// Whether the client has gone, as far as anybody can tell.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.get().is_some_and(|is_gone| is_gone())
    }
}
