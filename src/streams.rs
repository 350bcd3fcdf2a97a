//! Streams of user protocols: who is connected, who handles what, how a protocol is agreed.

mod announce;
mod attached;
pub(crate) mod fuzzing;
mod inbound;
mod limits;
mod message_reader;
mod name;
mod negotiate;
mod open;
mod peers;
pub(crate) mod registry;
mod target;
pub(crate) mod traffic;

use std::sync::{Arc, atomic::AtomicU64};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use announce::Announce;
pub use attached::Attached;
pub use inbound::StreamHost;
pub use limits::{MAX_INBOUND, StreamLimits};
pub(crate) use message_reader::{MessageError, MessageReader};
pub use name::ProtocolName;
pub use negotiate::{MAX_NAME, NegotiationError, UserStream};
pub use open::{OpenError, StreamUser};
pub use peers::{Observer, Peer, Peers};
pub use registry::{Handlers, Policy, Registry, RegistryError};
pub use target::{
    InboundStream, Listening, PersistentId, RequestOrigin, Serve, Service, Target, Targets,
};

pub use traffic::{LimitError, LimitSubject, Moved, Traffic, TrafficLimit};

use crate::memory::{Ledger, Pressure};

/// Whether handlers may be about to be registered.
pub trait Registrations: Send + Sync {
    /// The requests that have arrived and are not served yet; `None` if there are none.
    fn arrived(&self) -> Option<Box<dyn Unserved>>;
}

/// Requests that had arrived at one moment.
pub trait Unserved: Send {
    /// Whether all of them are served.
    fn is_served(&mut self) -> bool;
}

/// How many streams were served and refused, for the report.
#[derive(Debug, Default)]
pub struct Counters {
    /// Streams reset because a limit was reached.
    pub refused: AtomicU64,
    /// Inbound user streams served so far.
    pub served: AtomicU64,
}

/// What [`Streams`] is made from.
pub struct StreamsParts {
    /// Registered protocols.
    pub registry: Arc<Registry>,
    /// Serves inbound streams.
    pub serve: Serve,
    /// How many there may be.
    pub limits: StreamLimits,
    /// No streams are taken while it says that memory is short.
    pub pressure: Arc<Pressure>,
    /// What peers make the daemon hold is charged here.
    pub ledger: Arc<Ledger>,
    /// Control requests that may register handlers.
    pub registrations: Arc<dyn Registrations>,
    /// Runs what serves streams.
    pub tasks: TaskTracker,
    /// No streams are taken any more once it is cancelled.
    pub closing: CancellationToken,
}

impl std::fmt::Debug for StreamsParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsParts").finish_non_exhaustive()
    }
}

/// The user streams of this daemon.
pub struct Streams {
    /// Connected peers.
    pub peers: Peers,
    /// Registered protocols.
    pub registry: Arc<Registry>,
    /// What moves on streams, and its limits.
    pub traffic: Traffic,
    /// What was served and refused.
    pub counters: Counters,
    serve: Serve,
    limits: StreamLimits,
    pressure: Arc<Pressure>,
    permits: Arc<Semaphore>,
    registrations: Arc<dyn Registrations>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("peers", &self.peers)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Streams {
    /// Takes streams until `closing` is cancelled.
    #[must_use]
    pub fn new(parts: StreamsParts) -> Self {
        let StreamsParts {
            registry,
            serve,
            limits,
            pressure,
            ledger,
            registrations,
            tasks,
            closing,
        } = parts;
        Self {
            peers: Peers::new(ledger),
            registry,
            traffic: Traffic::default(),
            counters: Counters::default(),
            serve,
            limits,
            pressure,
            permits: Arc::new(Semaphore::new(limits.inbound.min(Semaphore::MAX_PERMITS))),
            registrations,
            tasks,
            closing,
        }
    }
}
