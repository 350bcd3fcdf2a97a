//! Handlers that are removed.

use std::collections::HashMap;

use super::{Registry, RegistryError, changes::Changes};
use crate::streams::{
    name::ProtocolName,
    target::{Listening, PersistentId, Service, Target},
};

impl Registry {
    /// Removes one slot of `target` for each of `names`: all of them, or none.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] or [`RegistryError::NotFoundAt`].
    pub fn unregister(
        &self,
        socket: &Listening,
        names: &[ProtocolName],
    ) -> Result<(), RegistryError> {
        let target = Target::Socket(socket.clone());
        let mut changes = self.changes.lock();
        let mut wanted: HashMap<&[u8], usize> = HashMap::new();
        for name in names {
            let table = self.slots.lock();
            let slots = table
                .get(name.as_bytes())
                .map(|slots| slots.of(target.kind()))
                .filter(|slots| !slots.is_empty())
                .ok_or_else(|| RegistryError::NotFound(name.clone()))?;
            let wanted = wanted.entry(name.as_bytes()).or_default();
            *wanted += 1;
            if slots.count(&target) < *wanted {
                return Err(RegistryError::NotFoundAt(name.clone(), socket.addr.clone()));
            }
        }
        self.remove(&mut changes, &target, names);
        Ok(())
    }

    /// Removes one slot of the persistent connection `id` for `name`.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] or [`RegistryError::NotOwned`].
    pub fn unregister_calls(
        &self,
        id: PersistentId,
        name: &ProtocolName,
    ) -> Result<(), RegistryError> {
        let target = Target::Persistent(id);
        let mut changes = self.changes.lock();
        let table = self.slots.lock();
        match table
            .get(name.as_bytes())
            .map(|slots| slots.of(target.kind()))
        {
            Some(calls) if calls.count(&target) > 0 => {}
            Some(calls) if !calls.is_empty() => {
                return Err(RegistryError::NotOwned(name.clone()));
            }
            _ => return Err(RegistryError::NotFound(name.clone())),
        }
        drop(table);
        self.remove(&mut changes, &target, [name]);
        Ok(())
    }

    /// Serves `name` by `service` no more. What else serves it goes on.
    pub fn withdraw(&self, name: &ProtocolName, service: &Service) {
        let mut changes = self.changes.lock();
        self.remove(&mut changes, &Target::Service(service.clone()), [name]);
    }

    /// Removes every slot of the persistent connection `id`, which has ended.
    pub fn forget(&self, id: PersistentId) {
        let mut changes = self.changes.lock();
        let Some(calls) = changes.calls.remove(&id) else {
            return;
        };
        let slots = calls
            .iter()
            .flat_map(|(name, count)| std::iter::repeat_n(name, *count));
        self.remove(&mut changes, &Target::Persistent(id), slots);
    }

    /// Removes one slot of `target` for each of `names`.
    fn remove<'a>(
        &self,
        changes: &mut Changes,
        target: &Target,
        names: impl IntoIterator<Item = &'a ProtocolName>,
    ) {
        let mut is_gone = false;
        for name in names {
            let mut table = self.slots.lock();
            let Some(slots) = table.get_mut(name.as_bytes()) else {
                continue;
            };
            if !slots.of_mut(target.kind()).remove(target) {
                continue;
            }
            if slots.is_empty() {
                table.remove(name.as_bytes());
                changes.announced.remove(name);
                is_gone = true;
            }
            drop(table);
            changes.count -= 1;
            if let Target::Persistent(id) = target {
                changes.forget_call(*id, name);
            }
        }
        if is_gone {
            changes.announced.publish(self.library());
        }
    }
}
