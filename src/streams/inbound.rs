//! Inbound streams: admitted, negotiated and handed to whoever serves them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Streams,
    name::ProtocolName,
    negotiate::{self, Choice, Negotiated, UserStream},
    registry::Turn,
    target::{InboundStream, Target, Targets},
};
use crate::{
    faults,
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    metrics::{Handled, metrics},
    muxer::{Connection, Handover, Host, Substream},
    telemetry::Chain,
};

/// Inbound streams on one connection that always have room among those of all peers.
const FAIR_SHARE: usize = 1024;
fixed_limit!(
    "streams of one connection in the last quarter of all",
    FAIR_SHARE
);

/// How long a remote may take to propose a protocol (go-libp2p's negotiation timeout).
pub(crate) const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);
fixed_limit!("time for a protocol proposal", time NEGOTIATION_TIMEOUT);

/// How long a proposal that nobody handles may wait for the requests that came before it. They take
/// a millisecond or two, and more only where other programs have the processors: then it is the turns
/// of this process that are few, not the requests that are slow.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at whether they are served.
const REGISTRATION_INTERVAL: Duration = Duration::from_millis(1);

/// A stream that somebody serves, until the end.
struct Served {
    serving: BoxFuture<'static, ()>,
    /// Nobody waits for its end.
    endless: bool,
    _handled: Handled,
    _permit: OwnedSemaphorePermit,
}

impl Streams {
    /// Boxed before the task begins, so that a stream in use does not carry the state of its
    /// negotiation along.
    fn accept(
        self: Arc<Self>,
        connection: Arc<Connection>,
        stream: Substream,
        swarm: Handover,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> {
        let closing = self.closing.clone();
        let negotiation = Box::pin(self.negotiate(connection, stream, swarm, permit));
        async move {
            let Some(served) = negotiation.await else {
                return;
            };
            if served.endless {
                closing.run_until_cancelled(served.serving).await;
            } else {
                served.serving.await;
            }
        }
    }

    /// Finds whoever serves the stream.
    async fn negotiate(
        self: Arc<Self>,
        connection: Arc<Connection>,
        stream: Substream,
        swarm: Handover,
        permit: OwnedSemaphorePermit,
    ) -> Option<Served> {
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
        let negotiated = self.closing.run_until_cancelled(negotiation).await?;
        drop(negotiating);
        match negotiated {
            Ok(Ok(Negotiated::User {
                stream,
                name,
                choice,
            })) => self.served(connection, stream, name, choice, permit),
            Ok(Ok(Negotiated::Library(stream))) => {
                // The swarm bounds how many it negotiates; beyond, or when the connection is
                // gone, the stream is reset.
                let stream = Box::pin(stream.counted(permit));
                let handed = swarm.send_timeout(stream, NEGOTIATION_TIMEOUT);
                let _ = self.closing.run_until_cancelled(handed).await;
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "inbound stream: negotiation failed");
                None
            }
            Err(_) => {
                Limit::NegotiationTime.hit();
                None
            }
        }
    }

    /// Hands the stream to whoever's turn it is.
    fn served(
        &self,
        connection: Arc<Connection>,
        mut stream: UserStream,
        name: ProtocolName,
        choice: Turn,
        permit: OwnedSemaphorePermit,
    ) -> Option<Served> {
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
        let peer = self.peers.get(&connection.peer)?;
        if *choice.first() != Target::Ping {
            let open = (!endless).then_some(&peer.open);
            match self.traffic.open(connection.peer, &name, open) {
                Ok(tap) => stream.set_tap(tap),
                Err(error) => {
                    tracing::debug!(peer = %connection.peer, %error, "inbound stream refused");
                    return None;
                }
            }
        }
        let handled = metrics().streams.handle(name.to_str().unwrap_or("other"));
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
        Some(Served {
            serving: match service {
                Some(service) => service.serve(inbound),
                None => (self.serve)(inbound),
            },
            endless,
            _handled: handled,
            _permit: permit,
        })
    }

    /// Waits until the control requests that have arrived are served, for a short time at most.
    async fn settled(&self) {
        let Some(mut arrived) = self.registrations.arrived() else {
            return;
        };
        let begun = tokio::time::Instant::now();
        while !arrived.is_served() && begun.elapsed() < REGISTRATION_PATIENCE {
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
        let accepted = streams.accept(connection, stream, swarm, permit);
        self.0.tasks.spawn(accepted);
    }

    fn refused(&self, connection: &Arc<Connection>) {
        self.0.counters.refused.fetch_add(1, Ordering::Relaxed);
        Limit::Streams.hit();
        tracing::debug!(peer = %connection.peer, "inbound stream refused: limit reached");
    }
}
