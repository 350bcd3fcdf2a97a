//! Which handler serves which protocol.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::{future::BoxFuture, task::AtomicWaker};
use libp2p::StreamProtocol;

use super::{InboundStream, Serve, negotiate::MAX_NAME};
use crate::{limit_hits::Limit, wire::maddr::ControlAddr};

/// Handler slots in one daemon (SECURITY.md 3). Far above what a client registers, far below
/// what would hurt.
pub(crate) const MAX_SLOTS: usize = 4096;

/// Names and bytes of names told to peers. Peers refuse an identify message above 4 KiB
/// whole, and addresses need their share; names beyond it are negotiated all the same.
const MAX_ANNOUNCED: usize = 96;
const MAX_ANNOUNCED_BYTES: usize = 2048;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOrigin {
    /// A unix control socket: the client's user.
    User(u32),
    /// A tcp control socket.
    Tcp {
        /// The client's address, not mapped to IPv6.
        ip: IpAddr,
        /// Whether the client is on this machine.
        local: bool,
    },
}

/// A client's listening socket. Sockets at one address are the same, whoever has named it: any
/// client may remove a handler, as in Go.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Where it listens.
    pub addr: ControlAddr,
    /// Who has registered it.
    pub origin: RequestOrigin,
}

impl PartialEq for Listening {
    fn eq(&self, other: &Self) -> bool {
        self.addr == other.addr
    }
}

impl Eq for Listening {}

/// Who serves an inbound stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A client's listening socket.
    Socket(Listening),
    /// A client that answers calls on its persistent connection.
    Persistent(PersistentId),
    /// The daemon sends back what it receives.
    Echo,
    /// As [`Target::Echo`], for liveness checks: nobody waits for such a stream to end.
    Ping,
    /// A part of the daemon. Clients cannot take its protocol over.
    Service(Service),
}

/// Names a persistent connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PersistentId(pub u64);

/// Handlers of streams and handlers of calls do not count as each other's rivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Streams,
    Calls,
}

impl Target {
    fn kind(&self) -> Kind {
        match self {
            Self::Socket(_) | Self::Echo | Self::Ping | Self::Service(_) => Kind::Streams,
            Self::Persistent(_) => Kind::Calls,
        }
    }

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
    /// The protocol's handlers belong to other persistent connections.
    NotOwned(String),
    /// The daemon itself needs the protocol.
    Reserved(String),
    /// Empty, or longer than the limit in bytes.
    BadName(usize),
    /// [`MAX_SLOTS`] is reached.
    Full,
}

/// Handlers of one kind, taking turns.
#[derive(Debug, Default)]
struct Ring {
    targets: Vec<Target>,
    next: usize,
}

impl Ring {
    fn are_builtin(&self) -> bool {
        self.targets.iter().all(Target::is_builtin)
    }

    /// Removes the first slot of `target`.
    fn remove(&mut self, target: &Target) -> bool {
        let Some(index) = self.targets.iter().position(|slot| slot == target) else {
            return false;
        };
        self.targets.remove(index);
        if index < self.next {
            self.next -= 1;
        }
        true
    }

    /// All targets, the one whose turn it is first.
    fn turn(&mut self) -> Vec<Target> {
        let start = self.next % self.targets.len();
        self.next = (start + 1) % self.targets.len();
        let mut order = self.targets.clone();
        order.rotate_left(start);
        order
    }
}

/// The handlers of one protocol. Only one kind is served at a time: that of the latest
/// registration, as in Hivemind's daemon.
#[derive(Debug, Default)]
struct Slots {
    streams: Ring,
    calls: Ring,
    latest: Kind,
}

impl Slots {
    fn ring(&mut self, kind: Kind) -> &mut Ring {
        match kind {
            Kind::Streams => &mut self.streams,
            Kind::Calls => &mut self.calls,
        }
    }

    fn are_service(&self) -> bool {
        matches!(self.streams.targets[..], [Target::Service(_)])
    }

    fn is_empty(&self) -> bool {
        self.streams.targets.is_empty() && self.calls.targets.is_empty()
    }

    fn serving(&mut self) -> &mut Ring {
        let first = match self.latest {
            Kind::Streams if self.streams.targets.is_empty() => Kind::Calls,
            Kind::Calls if self.calls.targets.is_empty() => Kind::Streams,
            latest => latest,
        };
        self.ring(first)
    }
}

/// Peers look for services only where they are listed; clients' names come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Service,
    Client,
}

#[derive(Default)]
struct Table {
    slots: HashMap<String, Slots>,
    /// The names in the order in which identify tells them. Kept, since a registration must not
    /// cost a sort of all.
    order: BTreeSet<(Order, String)>,
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
        let removed = table.slots.remove(name).map_or(0, |slots| {
            slots.streams.targets.len() + slots.calls.targets.len()
        });
        table.count -= removed;
        table.order.remove(&(Order::Client, name.to_owned()));
        table.order.remove(&(Order::Service, name.to_owned()));
        if let Some(service) = service {
            table.order.insert((Order::Service, name.to_owned()));
            let mut slots = Slots::default();
            slots.streams.targets.push(Target::Service(service));
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
                .get_mut(name)
                .is_some_and(|slots| !slots.ring(target.kind()).are_builtin());
            if policy == Policy::Exclusive && taken {
                return Err(RegistryError::AlreadySet(name.clone()));
            }
        }
        if table.count + names.len() > MAX_SLOTS {
            Limit::HandlerSlots.hit();
            return Err(RegistryError::Full);
        }
        let mut added = false;
        for name in names {
            let table = &mut *table;
            let slots = table.slots.entry(name.clone()).or_default();
            if slots.is_empty() {
                table.order.insert((Order::Client, name.clone()));
                added = true;
            }
            slots.latest = target.kind();
            let ring = slots.ring(target.kind());
            if policy == Policy::Replace || ring.are_builtin() {
                let removed = std::mem::take(ring).targets.len();
                ring.targets.push(target.clone());
                table.count = table.count + 1 - removed;
            } else {
                ring.targets.push(target.clone());
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
    pub fn unregister(&self, socket: &Listening, names: &[String]) -> Result<(), RegistryError> {
        let target = Target::Socket(socket.clone());
        let mut table = self.table();
        for (index, name) in names.iter().enumerate() {
            let slots = table
                .slots
                .get(name)
                .filter(|slots| !slots.streams.targets.is_empty())
                .ok_or_else(|| RegistryError::NotFound(name.clone()))?;
            let wanted = names[..=index]
                .iter()
                .filter(|other| *other == name)
                .count();
            let slots = slots.streams.targets.iter();
            let present = slots.filter(|slot| **slot == target).count();
            if present < wanted {
                return Err(RegistryError::NotFoundAt(name.clone(), socket.addr.clone()));
            }
        }
        table.remove(&target, names.iter().map(String::as_str), &self.library);
        Ok(())
    }

    /// Removes one slot of the persistent connection `id` for `name`.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] or [`RegistryError::NotOwned`].
    pub fn unregister_calls(&self, id: PersistentId, name: &str) -> Result<(), RegistryError> {
        let target = Target::Persistent(id);
        let mut table = self.table();
        match table.slots.get(name) {
            Some(slots) if slots.calls.targets.contains(&target) => {}
            Some(slots) if !slots.calls.targets.is_empty() => {
                return Err(RegistryError::NotOwned(name.to_owned()));
            }
            _ => return Err(RegistryError::NotFound(name.to_owned())),
        }
        table.remove(&target, [name], &self.library);
        Ok(())
    }

    /// Removes every slot of the persistent connection `id`, which has ended.
    pub fn forget(&self, id: PersistentId) {
        let target = Target::Persistent(id);
        let mut table = self.table();
        let names: Vec<String> = table
            .slots
            .iter()
            .flat_map(|(name, slots)| {
                let slots = slots.calls.targets.iter();
                slots.filter(|slot| **slot == target).map(|_| name.clone())
            })
            .collect();
        table.remove(&target, names.iter().map(String::as_str), &self.library);
    }

    /// The targets of `name` in the order in which to try them; advances the round robin.
    pub(super) fn select(&self, name: &str) -> Option<Vec<Target>> {
        let mut table = self.table();
        Some(table.slots.get_mut(name)?.serving().turn())
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
    /// Removes one slot of `target` for each of `names`.
    fn remove<'a>(
        &mut self,
        target: &Target,
        names: impl IntoIterator<Item = &'a str>,
        library: &[&str],
    ) {
        let mut gone = false;
        for name in names {
            let Some(slots) = self.slots.get_mut(name) else {
                continue;
            };
            if !slots.ring(target.kind()).remove(target) {
                continue;
            }
            self.count -= 1;
            if slots.is_empty() {
                self.slots.remove(name);
                self.order.remove(&(Order::Client, name.to_owned()));
                gone = true;
            }
        }
        if gone {
            self.announce(library);
        }
    }

    /// Leaves out what the swarm announces itself: it counts names to see a change, and one
    /// that comes twice would hide the removal of another.
    fn announce(&mut self, library: &[&str]) {
        let mut bytes = 0;
        let announced: Arc<[StreamProtocol]> = self
            .order
            .iter()
            .filter(|(_, name)| !library.contains(&name.as_str()))
            .filter_map(|(_, name)| StreamProtocol::try_from_owned(name.clone()).ok())
            .take(MAX_ANNOUNCED)
            .take_while(|name| {
                bytes += name.as_ref().len() + 2;
                bytes <= MAX_ANNOUNCED_BYTES
            })
            .collect();
        if announced == self.announced {
            return;
        }
        self.announced = announced;
        for listener in &self.listeners {
            if let Some(waker) = listener.upgrade() {
                waker.wake();
            }
        }
    }
}
