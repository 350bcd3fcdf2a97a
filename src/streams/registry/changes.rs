//! What changes to the registry keep, and streams do not look at.

use std::collections::HashMap;

use super::{announced::Announced, slots::Ring};
use crate::streams::{
    name::ProtocolName,
    target::{PersistentId, Target},
};

/// What only changes look at.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Slots of all names.
    pub(super) count: usize,
    pub(super) announced: Announced,
    /// How often each persistent connection has registered each name.
    pub(super) calls: HashMap<PersistentId, HashMap<ProtocolName, usize>>,
}

impl Changes {
    /// One slot of the persistent connection `id` for `name` is no longer there.
    pub(super) fn forget_call(&mut self, id: PersistentId, name: &ProtocolName) {
        let Some(calls) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(count) = calls.get_mut(name.as_bytes()) {
            *count -= 1;
            if *count == 0 {
                calls.remove(name.as_bytes());
            }
        }
        if calls.is_empty() {
            self.calls.remove(&id);
        }
    }

    /// The slots of `ring` are no longer there.
    pub(super) fn replaced(&mut self, name: &ProtocolName, ring: &Ring) {
        for target in ring.targets() {
            if let Target::Persistent(id) = target {
                self.forget_call(*id, name);
            }
        }
    }
}
