//! Whose turn it is to serve a stream.

use std::sync::Arc;

use super::{Registry, slots::Position};
use crate::streams::{name::ProtocolName, target::Target};

/// The handlers of a stream's protocol, in the order in which to try them.
#[derive(Debug)]
pub(in crate::streams) struct Turn {
    pub(super) registry: Arc<Registry>,
    pub(super) name: ProtocolName,
    pub(super) first: Target,
    pub(super) is_first: bool,
    pub(super) position: Position,
}

impl Turn {
    /// The handler whose turn it is.
    pub(in crate::streams) fn first(&self) -> &Target {
        &self.first
    }
}

impl Iterator for Turn {
    type Item = Target;

    fn next(&mut self) -> Option<Target> {
        if std::mem::take(&mut self.is_first) {
            return Some(self.first.clone());
        }
        let table = self.registry.slots.lock();
        table
            .get(self.name.as_bytes())?
            .following(&mut self.position)
    }
}
