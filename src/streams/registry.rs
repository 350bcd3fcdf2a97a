//! Which handler serves which protocol.
//!
//! There are two locks. Changes are made under one of them, one request after another, and may
//! walk as many names as a request has. Streams take the other, which is held for one name at a
//! time and no longer than it takes to find a handler in a tree of [`MAX_SLOTS`] at most. In a
//! debug build on two cores, 4000 handlers of one name are removed in 9 ms, and a stream that is
//! opened and echoed meanwhile takes 5 ms.

mod announced;
mod changes;
mod removal;
mod slots;
mod turn;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use libp2p::StreamProtocol;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    name::ProtocolName,
    negotiate::MAX_NAME,
    target::{Kind, Service, Target},
};
use crate::{fixed_limits::fixed_limit, limit_hits::Limit, wire::maddr::ControlAddr};
use announced::Rank;
use changes::Changes;
use slots::Slots;
pub(super) use turn::Turn;

/// Handler slots in one daemon (SECURITY.md 3). Far above what a client registers, far below
/// what would hurt.
pub(crate) const MAX_SLOTS: usize = 4096;
fixed_limit!("stream handlers", MAX_SLOTS);

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The policy is [`Policy::Exclusive`].
    #[error("{0} has a handler")]
    AlreadySet(ProtocolName),
    /// Nothing is registered for the protocol.
    #[error("{0} has no handler")]
    NotFound(ProtocolName),
    /// Nothing is registered for the protocol at this address.
    #[error("{0} has no handler at {1}")]
    NotFoundAt(ProtocolName, ControlAddr),
    /// Other persistent connections have registered the protocol's handlers.
    #[error("the handlers of {0} belong to others")]
    NotOwned(ProtocolName),
    /// The daemon itself needs the protocol.
    #[error("{0} is served by the daemon")]
    Reserved(ProtocolName),
    /// Empty, or longer than [`MAX_NAME`] bytes.
    #[error("a protocol name of {0} bytes")]
    BadName(usize),
    /// [`MAX_SLOTS`] is reached.
    #[error("too many handlers")]
    Full,
}

/// Who handles one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handlers {
    /// Its name.
    pub protocol: String,
    /// Registrations that take streams.
    pub streams: usize,
    /// Registrations that answer calls.
    pub calls: usize,
    /// Whether the daemon itself serves it.
    pub is_builtin: bool,
}

/// The user protocols of this daemon.
pub struct Registry {
    /// Locked before `slots`.
    changes: Mutex<Changes>,
    /// Locked for one name at a time. No entry is empty.
    slots: Mutex<HashMap<ProtocolName, Slots>>,
    /// Services that identify does not tell of. Never locked together with `slots`.
    untold: Mutex<HashMap<ProtocolName, Slots>>,
    announced: watch::Receiver<Arc<[StreamProtocol]>>,
    /// Protocols that the swarm serves.
    library: OnceLock<Vec<String>>,
    /// Those of them that a client may take over.
    replaceable: Vec<&'static str>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("protocols", &self.slots.lock().len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry. Clients may take over those of the swarm's own protocols that are
    /// `replaceable`.
    #[must_use]
    pub fn new(replaceable: Vec<&'static str>) -> Self {
        let changes = Changes::default();
        Self {
            announced: changes.announced.subscribe(),
            changes: Mutex::new(changes),
            slots: Mutex::default(),
            untold: Mutex::default(),
            library: OnceLock::new(),
            replaceable,
        }
    }

    /// Sets which protocols the swarm serves. They are set once, before there are connections.
    pub fn set_library(&self, names: Vec<String>) {
        let changes = self.changes.lock();
        let _ = self.library.set(names);
        changes.announced.publish(self.library());
    }

    fn library(&self) -> &[String] {
        self.library.get().map_or(&[], Vec::as_slice)
    }

    /// Whether the swarm serves `name`.
    pub(super) fn is_library(&self, name: &[u8]) -> bool {
        self.library().iter().any(|other| other.as_bytes() == name)
    }

    /// Whether a client may take over `name`, which the swarm serves.
    fn is_replaceable(&self, name: &[u8]) -> bool {
        let names = self.replaceable.iter();
        names.into_iter().any(|other| other.as_bytes() == name)
    }

    /// Serves `name` inside the daemon, or no longer if `service` is `None`. A client's handler
    /// of that name is replaced.
    pub fn set_service(&self, name: &str, service: Option<Service>) {
        let name = &ProtocolName::from(name);
        let mut changes = self.changes.lock();
        let slots = service.map(|service| {
            let mut slots = Slots::default();
            slots.add(&Target::Service(service));
            slots
        });
        let mut table = self.slots.lock();
        let (added, removed) = match slots {
            Some(slots) => (1, table.insert(name.clone(), slots)),
            None => (0, table.remove(name.as_bytes())),
        };
        drop(table);
        changes.count = changes.count + added - removed.map_or(0, |slots| slots.len());
        changes.announced.remove(name);
        if added > 0 {
            changes.announced.add(Rank::Service, name);
        }
        changes.announced.publish(self.library());
    }

    /// Serves `name` inside the daemon while nobody has registered a handler for it. Identify does
    /// not tell of it.
    pub fn set_untold_service(&self, name: &str, service: Service) {
        let mut slots = Slots::default();
        slots.add(&Target::Service(service));
        self.untold.lock().insert(name.into(), slots);
    }

    /// Whether `target` may be registered for `name`.
    fn check(
        &self,
        target: &Target,
        name: &ProtocolName,
        policy: Policy,
    ) -> Result<(), RegistryError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() > MAX_NAME {
            return Err(RegistryError::BadName(bytes.len()));
        }
        let table = self.slots.lock();
        let slots = table.get(bytes);
        let service = slots.is_some_and(Slots::are_service);
        if service || self.is_library(bytes) && !self.is_replaceable(bytes) {
            return Err(RegistryError::Reserved(name.clone()));
        }
        let taken = slots.is_some_and(|slots| !slots.of(target.kind()).is_builtin());
        if policy == Policy::Exclusive && taken {
            return Err(RegistryError::AlreadySet(name.clone()));
        }
        Ok(())
    }

    /// Registers `target` for each of `names`: all of them, or none.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn register(
        &self,
        target: &Target,
        names: &[ProtocolName],
        policy: Policy,
    ) -> Result<(), RegistryError> {
        let mut changes = self.changes.lock();
        // No more than that can be registered.
        for name in names.iter().take(MAX_SLOTS + 1) {
            self.check(target, name, policy)?;
        }
        if changes.count + names.len() > MAX_SLOTS {
            Limit::HandlerSlots.hit();
            return Err(RegistryError::Full);
        }
        let mut is_new = false;
        for name in names {
            let mut table = self.slots.lock();
            let slots = table.entry(name.clone()).or_default();
            let first = slots.is_empty();
            let ring = slots.of_mut(target.kind());
            let replaced =
                (policy == Policy::Replace || ring.is_builtin()).then(|| std::mem::take(ring));
            slots.add(target);
            drop(table);
            changes.count += 1;
            if let Some(replaced) = replaced {
                changes.count -= replaced.len();
                changes.replaced(name, &replaced);
            }
            if let Target::Persistent(id) = target {
                let calls = changes.calls.entry(*id).or_default();
                *calls.entry(name.clone()).or_default() += 1;
            }
            if first {
                changes.announced.add(Rank::Client, name);
                is_new = true;
            }
        }
        if is_new {
            changes.announced.publish(self.library());
        }
        Ok(())
    }

    /// Serves `name` by `service`, which a client wants.
    ///
    /// # Errors
    /// See [`RegistryError`]: nothing is replaced.
    pub fn expose(&self, name: &ProtocolName, service: &Service) -> Result<(), RegistryError> {
        let names = std::slice::from_ref(name);
        self.register(&Target::Service(service.clone()), names, Policy::Exclusive)
    }

    /// The handler whose turn it is to serve a stream of `name`, and those to try after it.
    pub(super) fn select(self: &Arc<Self>, name: &[u8]) -> Option<Turn> {
        let told = self.slots.lock().get_mut(name).and_then(Slots::turn);
        let turn = told.or_else(|| self.untold.lock().get_mut(name)?.turn());
        let (first, position) = turn?;
        Some(Turn {
            registry: self.clone(),
            name: name.into(),
            first,
            is_first: true,
            position,
        })
    }

    /// Who handles what. Streams are served meanwhile; changes wait.
    #[must_use]
    pub fn handlers(&self) -> Vec<Handlers> {
        let changes = self.changes.lock();
        let of = |name: &ProtocolName| {
            let table = self.slots.lock();
            let slots = table.get(name.as_bytes())?;
            let (streams, calls) = (slots.of(Kind::Streams), slots.of(Kind::Calls));
            Some(Handlers {
                protocol: name.to_string(),
                streams: streams.len(),
                calls: calls.len(),
                is_builtin: slots.are_service() || calls.is_empty() && streams.is_builtin(),
            })
        };
        changes.announced.names().filter_map(of).collect()
    }

    /// How many protocols identify tells peers, those of the swarm included.
    #[must_use]
    pub fn announced_count(&self) -> usize {
        self.announced.borrow().len() + self.library().len()
    }

    /// What identify tells peers, now and later.
    pub(super) fn announced(&self) -> watch::Receiver<Arc<[StreamProtocol]>> {
        self.announced.clone()
    }
}
