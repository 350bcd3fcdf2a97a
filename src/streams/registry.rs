//! Which handler serves which protocol.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::{future::BoxFuture, task::AtomicWaker};
use libp2p::StreamProtocol;

use super::{InboundStream, Serve, negotiate::MAX_NAME};
use crate::wire::maddr::ControlAddr;

/// Handler slots in one daemon (SECURITY.md 3). Far above what a client registers, far below
/// what would hurt.
const MAX_SLOTS: usize = 4096;

/// Names and bytes of names told to peers. Peers refuse an identify message above 4 KiB
/// whole, and addresses need their share; names beyond it are negotiated all the same.
const MAX_ANNOUNCED: usize = 96;
const MAX_ANNOUNCED_BYTES: usize = 2048;

/// Who serves an inbound stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A client's listening socket.
    Socket(ControlAddr),
    /// The daemon sends back what it receives.
    Echo,
    /// As [`Target::Echo`], for liveness checks: nobody waits for such a stream to end.
    Ping,
    /// A part of the daemon. Clients cannot take its protocol over.
    Service(Service),
}

impl Target {
    /// Served by the daemon until a client takes the protocol over, as in Go.
    fn is_builtin(&self) -> bool {
        matches!(self, Self::Echo | Self::Ping)
    }
}

/// A part of the daemon that serves a protocol.
#[derive(Clone)]
pub struct Service(Arc<Serve>);

impl Service {
    /// A service that answers streams with `serve`.
    #[must_use]
    pub fn new(serve: Serve) -> Self {
        Self(Arc::new(serve))
    }

    pub(super) fn serve(&self, stream: InboundStream) -> BoxFuture<'static, ()> {
        (self.0)(stream)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Service {}

/// How a registration meets handlers that are there already (COMPATIBILITY.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Go and JavaScript clients: the new handler replaces all.
    Replace,
    /// Hivemind, `balanced=false`: refuse.
    Exclusive,
    /// Hivemind, `balanced=true`: take turns.
    Balanced,
}

/// Why a handler was not registered or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryError {
    /// The protocol has a handler and the policy is [`Policy::Exclusive`].
    AlreadySet(String),
    /// Nothing is registered for the protocol.
    NotFound(String),
    /// Nothing is registered for the protocol at this address.
    NotFoundAt(String, ControlAddr),
    /// The daemon itself needs the protocol.
    Reserved(String),
    /// Empty, or longer than the limit in bytes.
    BadName(usize),
    /// [`MAX_SLOTS`] is reached.
    Full,
}

#[derive(Debug, Default)]
struct Slots {
    targets: Vec<Target>,
    next: usize,
}

impl Slots {
    fn are_builtin(&self) -> bool {
        self.targets.iter().all(Target::is_builtin)
    }

    fn are_service(&self) -> bool {
        matches!(self.targets[..], [Target::Service(_)])
    }
}

#[derive(Default)]
struct Table {
    slots: HashMap<String, Slots>,
    count: usize,
    announced: Arc<[StreamProtocol]>,
    listeners: Vec<Weak<AtomicWaker>>,
}

/// The user protocols of this daemon.
pub struct Registry {
    table: Mutex<Table>,
    /// Protocols that the swarm serves.
    library: Vec<&'static str>,
    /// Those of them that a client may take over.
    replaceable: Vec<&'static str>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("protocols", &self.table().slots.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry beside the swarm's own `library` protocols; clients may take over
    /// those that are also in `replaceable`.
    #[must_use]
    pub fn new(library: Vec<&'static str>, replaceable: Vec<&'static str>) -> Self {
        Self {
            table: Mutex::default(),
            library,
            replaceable,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the swarm serves `name`.
    pub(super) fn is_library(&self, name: &str) -> bool {
        self.library.contains(&name)
    }

    /// Serves `name` inside the daemon, or no longer if `service` is `None`. A client's handler
    /// of that name is replaced.
    pub fn set_service(&self, name: &str, service: Option<Service>) {
        let mut table = self.table();
        let removed = table
            .slots
            .remove(name)
            .map_or(0, |slots| slots.targets.len());
        table.count -= removed;
        if let Some(service) = service {
            let slots = Slots {
                targets: vec![Target::Service(service)],
                next: 0,
            };
            table.slots.insert(name.to_owned(), slots);
            table.count += 1;
        }
        table.announce(&self.library);
    }

    /// Registers `target` for each of `names`: all of them, or none.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn register(
        &self,
        target: &Target,
        names: &[String],
        policy: Policy,
    ) -> Result<(), RegistryError> {
        let mut table = self.table();
        for name in names {
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(RegistryError::BadName(name.len()));
            }
            let library = self.library.contains(&name.as_str());
            let service = table.slots.get(name).is_some_and(Slots::are_service);
            if service || library && !self.replaceable.contains(&name.as_str()) {
                return Err(RegistryError::Reserved(name.clone()));
            }
            let taken = table
                .slots
                .get(name)
                .is_some_and(|slots| !slots.are_builtin());
            if policy == Policy::Exclusive && taken {
                return Err(RegistryError::AlreadySet(name.clone()));
            }
        }
        if table.count + names.len() > MAX_SLOTS {
            return Err(RegistryError::Full);
        }
        let mut added = false;
        for name in names {
            let slots = table.slots.entry(name.clone()).or_default();
            added |= slots.targets.is_empty();
            if policy == Policy::Replace || slots.are_builtin() {
                let removed = std::mem::take(&mut slots.targets).len();
                slots.next = 0;
                slots.targets.push(target.clone());
                table.count = table.count + 1 - removed;
            } else {
                slots.targets.push(target.clone());
                table.count += 1;
            }
        }
        if added {
            table.announce(&self.library);
        }
        Ok(())
    }

    /// Removes one slot of `target` for each of `names`: all of them, or none.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] or [`RegistryError::NotFoundAt`].
    pub fn unregister(&self, addr: &ControlAddr, names: &[String]) -> Result<(), RegistryError> {
        let target = Target::Socket(addr.clone());
        let mut table = self.table();
        for (index, name) in names.iter().enumerate() {
            let slots = table
                .slots
                .get(name)
                .ok_or_else(|| RegistryError::NotFound(name.clone()))?;
            let wanted = names[..=index]
                .iter()
                .filter(|other| *other == name)
                .count();
            let present = slots.targets.iter().filter(|slot| **slot == target).count();
            if present < wanted {
                return Err(RegistryError::NotFoundAt(name.clone(), addr.clone()));
            }
        }
        let mut gone = false;
        for name in names {
            let Some(slots) = table.slots.get_mut(name) else {
                continue;
            };
            if let Some(index) = slots.targets.iter().position(|slot| *slot == target) {
                slots.targets.remove(index);
                if index < slots.next {
                    slots.next -= 1;
                }
                if slots.targets.is_empty() {
                    table.slots.remove(name);
                    gone = true;
                }
                table.count -= 1;
            }
        }
        if gone {
            table.announce(&self.library);
        }
        Ok(())
    }

    /// The targets of `name` in the order in which to try them; advances the round robin.
    pub(super) fn select(&self, name: &str) -> Option<Vec<Target>> {
        let mut table = self.table();
        let slots = table.slots.get_mut(name)?;
        let start = slots.next % slots.targets.len();
        slots.next = (start + 1) % slots.targets.len();
        let mut order = slots.targets.clone();
        order.rotate_left(start);
        Some(order)
    }

    /// A waker that fires when what identify tells peers changes.
    pub(super) fn subscribe(&self) -> Arc<AtomicWaker> {
        let waker = Arc::new(AtomicWaker::new());
        let mut table = self.table();
        table
            .listeners
            .retain(|listener| listener.strong_count() > 0);
        table.listeners.push(Arc::downgrade(&waker));
        waker
    }

    pub(super) fn announced(&self) -> Arc<[StreamProtocol]> {
        self.table().announced.clone()
    }
}

impl Table {
    /// Leaves out what the swarm announces itself: it counts names to see a change, and one
    /// that comes twice would hide the removal of another.
    fn announce(&mut self, library: &[&str]) {
        let mut names: Vec<(&String, &Slots)> = self
            .slots
            .iter()
            .filter(|(name, _)| !library.contains(&name.as_str()))
            .collect();
        // Peers look for services only where they are listed; clients' names come after.
        names.sort_unstable_by_key(|(name, slots)| (!slots.are_service(), *name));
        let mut bytes = 0;
        self.announced = names
            .into_iter()
            .filter_map(|(name, _)| StreamProtocol::try_from_owned(name.clone()).ok())
            .take(MAX_ANNOUNCED)
            .take_while(|name| {
                bytes += name.as_ref().len() + 2;
                bytes <= MAX_ANNOUNCED_BYTES
            })
            .collect();
        for listener in &self.listeners {
            if let Some(waker) = listener.upgrade() {
                waker.wake();
            }
        }
    }
}
