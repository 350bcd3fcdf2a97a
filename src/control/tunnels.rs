//! Tunnels: local ports carried to services beside other daemons (PROTOCOL.md 7).
//!
//! One end listens and opens a stream for each connection (`forward`), the other connects to a
//! service for each stream (`expose`). In between is the pipe of all streams: an end of one side ends
//! that side alone, whoever does not read makes the other wait. What is cut is reset on both sides.

mod bind;
mod counts;
mod expose;
mod forward;
mod snapshot;
mod tunnel;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{guard::Guard, response::text};
use crate::{
    descriptors::Descriptors,
    events::Events,
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Account, OverBudget},
    node::Node,
    shutdown::Drain,
    streams::{MAX_NAME, ProtocolName, RegistryError, RequestOrigin, Service},
};
pub(super) use bind::BindError;
use counts::Counts;
pub use counts::Total;
pub use snapshot::{Snapshot, TunnelSnapshot};
use tunnel::Tunnel;
pub(super) use tunnel::{Expose, Forward, Info, Kind, Shape};

/// Tunnels of one daemon (SECURITY.md 3).
pub(crate) const MAX_TUNNELS: usize = 256;
fixed_limit!("tunnels", MAX_TUNNELS);

/// Connections that all tunnels listen for, together.
const MAX_FORWARDED: usize = 8 * 1024;
fixed_limit!("connections that all tunnels listen for", MAX_FORWARDED);

/// Services that are being connected to, for all tunnels together.
const MAX_DIALS: usize = 1024;
fixed_limit!("services of tunnels being connected to", MAX_DIALS);

/// What tunnels work with.
#[derive(Debug)]
pub struct Parts {
    /// The libp2p host.
    pub node: Node,
    /// How far a request reaches.
    pub guard: Arc<Guard>,
    /// How many connections there may be.
    pub descriptors: Descriptors,
    /// Told of connections that fail.
    pub events: Events,
    /// Runs the connections.
    pub tasks: TaskTracker,
    /// No connections are taken any more once it is cancelled.
    pub closing: CancellationToken,
    /// Ends connections on which nothing moves.
    pub drain: Drain,
}

/// Why there is no such tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("too many tunnels: at most {MAX_TUNNELS}")]
    TooMany,
    #[error("a tunnel to this daemon itself")]
    ToSelf,
    #[error("protocol name of {0} bytes: must be 1 to {MAX_NAME} bytes long")]
    Name(usize),
    #[error("{0} is no address of a loopback interface: it needs anyInterface")]
    Exposed(String),
    #[error("{0} is a name: listen on an ip address or a unix path")]
    Named(String),
    #[error("permission denied: {0} is out of your reach")]
    OutOfReach(String),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{}", text::registry_error(.0))]
    Registry(#[from] RegistryError),
    #[error("{}", text::denied(.0))]
    Denied(#[from] super::guard::AccessDenied),
    #[error("tunnel {0} does not exist")]
    Unknown(u64),
    #[error(transparent)]
    Memory(#[from] OverBudget),
    #[error("daemon is shutting down")]
    Closing,
}

/// The tunnels of one daemon.
#[derive(Debug)]
pub struct Tunnels {
    shared: Arc<Shared>,
    table: Mutex<BTreeMap<u64, Entry>>,
    /// Places in the table.
    places: Arc<Semaphore>,
    last: AtomicU64,
}

/// What all tunnels share.
#[derive(Debug)]
struct Shared {
    parts: Parts,
    totals: Arc<Counts>,
    forwarded: Arc<Semaphore>,
    dials: Semaphore,
}

#[derive(Debug)]
struct Entry {
    tunnel: Arc<Tunnel>,
    end: End,
    _place: OwnedSemaphorePermit,
}

/// What has to end with a tunnel.
#[derive(Debug)]
enum End {
    Listening(JoinHandle<()>),
    Serving(Service),
}

/// A tunnel that lasts as long as this.
#[derive(Debug)]
pub(super) struct Kept {
    tunnels: Arc<Tunnels>,
    id: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.tunnels.remove(self.id));
    }
}

impl Tunnels {
    /// No tunnels.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                parts,
                totals: Arc::default(),
                forwarded: Arc::new(Semaphore::new(MAX_FORWARDED)),
                dials: Semaphore::new(MAX_DIALS),
            }),
            table: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_TUNNELS)),
            last: AtomicU64::new(0),
        })
    }

    /// Listens, and carries each connection to a peer. What is kept for the tunnel is charged to
    /// `account`.
    ///
    /// # Errors
    /// [`TunnelError`]
    pub(super) async fn forward(
        &self,
        origin: RequestOrigin,
        account: &Arc<Account>,
        wanted: Forward,
        shape: Shape,
    ) -> Result<Info, TunnelError> {
        check_name(&wanted.protocol)?;
        if wanted.peer == self.shared.parts.node.peer_id() {
            return Err(TunnelError::ToSelf);
        }
        let place = self.place()?;
        let charge = account.charge(wanted.size())?;
        let (listener, addr) = forward::listen(&self.shared.parts.guard, origin, &wanted).await?;
        let kind = Kind::Forward { peer: wanted.peer };
        let protocol = wanted.protocol.clone();
        let tunnel = self.tunnel(kind, protocol, addr, shape, charge);
        let accepting = forward::Accepting {
            tunnel: tunnel.clone(),
            shared: self.shared.clone(),
            users: wanted.users(origin),
            wanted,
        };
        let accepting = self.shared.parts.tasks.spawn(accepting.run(listener));
        self.add(tunnel, End::Listening(accepting), place)
    }

    /// Carries each stream of a protocol to a service. What is kept for the tunnel is charged to
    /// `account`.
    ///
    /// # Errors
    /// [`TunnelError`]
    pub(super) async fn expose(
        &self,
        origin: RequestOrigin,
        account: &Arc<Account>,
        wanted: Expose,
        shape: Shape,
    ) -> Result<Info, TunnelError> {
        check_name(&wanted.protocol)?;
        let place = self.place()?;
        let charge = account.charge(wanted.size())?;
        let parts = &self.shared.parts;
        parts.guard.register(origin, &wanted.target).await?;
        let kind = Kind::Expose {
            allow: wanted.allow,
        };
        let tunnel = self.tunnel(kind, wanted.protocol, wanted.target, shape, charge);
        let service = expose::service(tunnel.clone(), self.shared.clone(), origin);
        let registry = &parts.node.streams().registry;
        registry.expose(&tunnel.protocol, &service)?;
        self.add(tunnel, End::Serving(service), place)
    }

    fn tunnel(
        &self,
        kind: Kind,
        protocol: ProtocolName,
        addr: crate::wire::maddr::ControlAddr,
        shape: Shape,
        charge: crate::memory::Charge,
    ) -> Arc<Tunnel> {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        let totals = self.shared.totals.clone();
        let events = self.shared.parts.events.clone();
        Arc::new(Tunnel::new(
            id, kind, protocol, addr, shape, charge, totals, events,
        ))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, TunnelError> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            Limit::Tunnels.hit();
            TunnelError::TooMany
        })
    }

    fn add(
        &self,
        tunnel: Arc<Tunnel>,
        end: End,
        place: OwnedSemaphorePermit,
    ) -> Result<Info, TunnelError> {
        let info = tunnel.info();
        let id = tunnel.id;
        let entry = Entry {
            tunnel,
            end,
            _place: place,
        };
        self.table.lock().insert(id, entry);
        if self.shared.parts.closing.is_cancelled() {
            drop(self.remove(id));
            return Err(TunnelError::Closing);
        }
        Ok(info)
    }

    /// A tunnel that ends when what is returned is dropped.
    pub(super) fn kept(self: &Arc<Self>, id: u64) -> Kept {
        Kept {
            tunnels: self.clone(),
            id,
        }
    }

    /// The tunnels, in the order in which they were made.
    pub(super) fn list(&self) -> Vec<Info> {
        let table = self.table.lock();
        table.values().map(|entry| entry.tunnel.info()).collect()
    }

    /// Ends tunnels and their connections. Ports that were listened on are free afterwards.
    ///
    /// # Errors
    /// [`TunnelError::Unknown`]: nothing is ended then.
    pub(super) async fn close(&self, ids: &[u64]) -> Result<Vec<Info>, TunnelError> {
        let mut ended = Vec::new();
        {
            let table = self.table.lock();
            if let Some(unknown) = ids.iter().find(|id| !table.contains_key(id)) {
                return Err(TunnelError::Unknown(*unknown));
            }
        }
        for id in ids {
            // One that is named twice, or that somebody else has ended meanwhile.
            let Some((info, listening)) = self.remove(*id) else {
                continue;
            };
            if let Some(listening) = listening {
                let _ = listening.await;
            }
            ended.push(info);
        }
        Ok(ended)
    }

    /// Ends a tunnel; what it was, and the task that still closes its port.
    fn remove(&self, id: u64) -> Option<(Info, Option<JoinHandle<()>>)> {
        let Entry { tunnel, end, .. } = self.table.lock().remove(&id)?;
        tunnel.closed.cancel();
        let listening = match end {
            End::Listening(accepting) => Some(accepting),
            End::Serving(service) => {
                let registry = &self.shared.parts.node.streams().registry;
                registry.withdraw(&tunnel.protocol, &service);
                None
            }
        };
        Some((tunnel.info(), listening))
    }

    /// What there is, for the report.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            tunnels: self.list().into_iter().map(Into::into).collect(),
            totals: self.shared.totals.total(),
        }
    }
}

fn check_name(name: &ProtocolName) -> Result<(), TunnelError> {
    match name.as_bytes().len() {
        1..=MAX_NAME => Ok(()),
        len => Err(TunnelError::Name(len)),
    }
}
