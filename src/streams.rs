//! Streams of user protocols: who is connected, who handles what, how a protocol is agreed.

mod announce;
pub(crate) mod fuzzing;
mod message_reader;
mod name;
mod negotiate;
mod peers;
pub(crate) mod registry;
mod target;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use announce::Announce;
pub(crate) use message_reader::{MessageError, MessageReader};
pub use name::ProtocolName;
use negotiate::{Choice, Negotiated};
pub use negotiate::{MAX_NAME, NegotiationError, UserStream};
pub(crate) use peers::MAX_DIALS as MAX_PEER_DIALS;
pub use peers::{Observer, Peer, Peers};
pub use registry::{Handlers, Policy, Registry, RegistryError};
pub use target::{
    InboundStream, Listening, PersistentId, RequestOrigin, Serve, Service, Target, Targets,
};

use crate::{
    faults,
    limit_hits::Limit,
    memory::{Charge, Ledger, Pressure},
    metrics::metrics,
    muxer::{Connection, Handover, Host, MAX_STREAMS, Substream},
    telemetry::Chain,
};

/// Inbound user streams of all peers together, unless memory is small; a further one is reset.
pub const MAX_INBOUND: usize = 64 * 1024;

/// As many on the smallest machine.
const MIN_INBOUND: usize = 1024;

/// Memory that a stream may be expected to need.
pub(crate) const STREAM_COST: u64 = 16 * 1024;

/// Inbound streams on one connection that always have room among those of all peers.
const FAIR_SHARE: usize = 1024;

/// How many inbound streams there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of all peers together.
    pub inbound: usize,
    /// On one connection.
    pub per_connection: usize,
}

impl StreamLimits {
    /// The defaults of a process that may use `memory` bytes, if that is not 0.
    #[must_use]
    pub fn scaled(memory: u64) -> Self {
        let affordable = match memory {
            0 => MAX_INBOUND,
            memory => usize::try_from(memory / STREAM_COST).unwrap_or(usize::MAX),
        };
        Self {
            inbound: affordable.clamp(MIN_INBOUND, MAX_INBOUND),
            per_connection: MAX_STREAMS,
        }
    }
}

/// How long a remote may take to propose a protocol (go-libp2p's negotiation timeout).
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether handlers may be about to be registered.
pub trait Registrations: Send + Sync {
    /// Whether requests have arrived that are not served yet.
    fn are_pending(&self) -> bool;
}

/// How long a proposal that nobody handles may wait for registrations that came before it.
const REGISTRATION_PATIENCE: Duration = Duration::from_millis(25);

/// Between two looks at whether they are served.
const REGISTRATION_INTERVAL: Duration = Duration::from_millis(1);

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

    /// Agrees on one of `protocols` with `peer` on a new stream of `connection`.
    ///
    /// If the peer is known to speak one of them, the first such is proposed and the stream
    /// returned at once; a refusal then shows as an error of the first read, as in Go.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open(
        &self,
        connection: &Arc<Connection>,
        known: &[String],
        protocols: &[ProtocolName],
    ) -> Result<(UserStream, ProtocolName), OpenError> {
        let stream = connection.open().await.map_err(OpenError::Open)?;
        if let Some(name) = protocols
            .iter()
            .find(|name| known.iter().any(|known| known == *name))
        {
            let stream = negotiate::dial_lazily(stream, name)
                .await
                .map_err(|error| OpenError::Negotiation(error.into()))?;
            return Ok((stream, name.clone()));
        }
        let (stream, index) = negotiate::dial(stream, self.charge(connection), protocols)
            .await
            .map_err(OpenError::Negotiation)?;
        Ok((stream, protocols[index].clone()))
    }

    /// A stream of `connection` to `peer` for one call of `protocol`, and what must be sent before
    /// the call, in one piece with it.
    ///
    /// A protocol that the peer has agreed to before is proposed together with the call; a
    /// refusal then shows as [`io::ErrorKind::ConnectionRefused`] of the first read.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open_call(
        &self,
        connection: &Arc<Connection>,
        peer: &Peer,
        protocol: &ProtocolName,
    ) -> Result<(UserStream, BytesMut), OpenError> {
        let stream = connection.open().await.map_err(OpenError::Open)?;
        if peer.speaks(protocol) {
            return Ok(negotiate::propose(stream, protocol));
        }
        let names = std::slice::from_ref(protocol);
        let (stream, _) = negotiate::dial(stream, Some(peer.account.empty_charge()), names)
            .await
            .map_err(OpenError::Negotiation)?;
        peer.agreed(protocol);
        Ok((stream, BytesMut::new()))
    }

    /// For what is received on a stream of `connection`.
    fn charge(&self, connection: &Connection) -> Option<Charge> {
        let peer = self.peers.get(&connection.peer)?;
        Some(peer.account.empty_charge())
    }

    async fn accept(
        self: Arc<Self>,
        connection: Arc<Connection>,
        stream: Substream,
        swarm: Handover,
        permit: OwnedSemaphorePermit,
    ) {
        faults::point("stream");
        let negotiating = metrics().streams.negotiate();
        let choose = |name: &[u8]| {
            if let Some(targets) = self.registry.select(name) {
                Choice::Accept(targets)
            } else if self.registry.is_library(name) {
                Choice::Library
            } else {
                Choice::Refuse
            }
        };
        let negotiation = tokio::time::timeout(
            NEGOTIATION_TIMEOUT,
            negotiate::listen(stream, self.charge(&connection), choose, || self.settled()),
        );
        // Boxed, so that a stream in use does not carry the state of its negotiation along.
        let negotiation = self.closing.run_until_cancelled(Box::pin(negotiation));
        let Some(negotiated) = negotiation.await else {
            return;
        };
        drop(negotiating);
        match negotiated {
            Ok(Ok(Negotiated::User {
                mut stream,
                name,
                choice,
            })) => {
                self.counters.served.fetch_add(1, Ordering::Relaxed);
                let service = match choice.first() {
                    Target::Service(service) => Some(service.clone()),
                    _ => None,
                };
                // Peers keep such streams open for ever; the end of the daemon does not wait.
                let endless = match choice.first() {
                    Target::Service(service) => !service.is_lasting(),
                    other => *other == Target::Ping,
                };
                if endless {
                    stream.set_background();
                }
                let Some(peer) = self.peers.get(&connection.peer) else {
                    return;
                };
                let _handled = metrics().streams.handle(name.to_str().unwrap_or("other"));
                let inbound = InboundStream {
                    peer: connection.peer,
                    remote: connection.remote.clone(),
                    connection,
                    protocol: name,
                    stream,
                    targets: Targets::new(choice),
                    dials: peer.dials.clone(),
                    account: peer.account.clone(),
                };
                let served = match service {
                    Some(service) => service.serve(inbound),
                    None => (self.serve)(inbound),
                };
                if endless {
                    self.closing.run_until_cancelled(served).await;
                } else {
                    served.await;
                }
            }
            Ok(Ok(Negotiated::Library(stream))) => {
                // The swarm bounds how many it negotiates; beyond, or when the connection is
                // gone, the stream is reset.
                let stream = Box::pin(stream.counted(permit));
                let handed = swarm.send_timeout(stream, NEGOTIATION_TIMEOUT);
                let _ = self.closing.run_until_cancelled(handed).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "inbound stream: negotiation failed");
            }
            Err(_) => Limit::NegotiationTime.hit(),
        }
    }

    /// Waits until the control requests that have arrived are served, for a short time at most.
    async fn settled(&self) {
        let deadline = tokio::time::Instant::now() + REGISTRATION_PATIENCE;
        while self.registrations.are_pending() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(REGISTRATION_INTERVAL).await;
        }
    }

    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if self.closing.is_cancelled() {
            return None;
        }
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Whether a connection with so many inbound streams may have one more. The last quarter of
    /// all is for connections that have few.
    fn is_fair(&self, streams: usize) -> bool {
        streams <= FAIR_SHARE || self.permits.available_permits() > self.limits.inbound / 4
    }
}

/// [`Streams`] as the connections see it.
#[derive(Debug, Clone)]
pub struct StreamHost(pub Arc<Streams>);

impl Host for StreamHost {
    fn connected(&self, connection: &Arc<Connection>) {
        metrics().swarm.opened(connection.carrier());
        self.0.peers.add(connection);
    }

    fn disconnected(&self, connection: &Arc<Connection>) {
        let life = connection.since.elapsed();
        metrics().swarm.closed(connection.carrier(), life);
        self.0.peers.remove(connection);
    }

    fn max_streams(&self) -> usize {
        self.0.limits.per_connection
    }

    fn inbound(&self, connection: &Arc<Connection>, stream: Substream, swarm: Handover) {
        if self.0.pressure.refuses_streams() {
            self.0.counters.refused.fetch_add(1, Ordering::Relaxed);
            Limit::MemoryStreams.hit();
            return;
        }
        let fair = self.0.is_fair(connection.inbound_streams());
        let Some(permit) = self.0.permit().filter(|_| fair) else {
            self.refused(connection);
            return;
        };
        let (streams, connection) = (self.0.clone(), connection.clone());
        self.0.tasks.spawn(async move {
            streams.accept(connection, stream, swarm, permit).await;
        });
    }

    fn refused(&self, connection: &Arc<Connection>) {
        self.0.counters.refused.fetch_add(1, Ordering::Relaxed);
        Limit::Streams.hit();
        tracing::debug!(peer = %connection.peer, "inbound stream refused: limit reached");
    }
}

/// Why a stream could not be opened on a live connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection failed before the stream existed.
    #[error("failed to open stream")]
    Open(#[source] io::Error),
    /// No protocol was agreed on.
    #[error("failed to negotiate protocol")]
    Negotiation(#[source] NegotiationError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_follow_from_memory() {
        let scaled = |mebibytes: u64| StreamLimits::scaled(mebibytes << 20).inbound;
        assert_eq!(scaled(0), MAX_INBOUND);
        assert_eq!(scaled(16 << 10), MAX_INBOUND);
        assert_eq!(scaled(128), 8192);
        assert_eq!(scaled(1), MIN_INBOUND);
    }
}
