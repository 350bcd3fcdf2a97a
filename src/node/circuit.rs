//! Connections through a relay, as a transport: a stream to the relay becomes the raw connection,
//! which is then secured and multiplexed like any other.
//!
//! The transport knows neither how a relay is spoken to nor who relays. [`CircuitDialer`] opens
//! circuits, and [`Node::accept_circuit`] takes those that a relay has brought.

mod route;

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{AsyncWriteExt as _, FutureExt as _, TryFutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        ConnectedPoint, Transport,
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::{
    Node,
    dial::CircuitError,
    peer_address::{is_relayed, remote_address, through},
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    streams::{Attached, Streams, UserStream},
};
use route::Route;

/// Inbound circuits that wait for the swarm (SECURITY.md 3); a further one is refused.
const MAX_WAITING: usize = 64;
fixed_limit!("inbound circuits that wait for the swarm", MAX_WAITING);

/// Opens circuits.
pub trait CircuitDialer: Send + Sync + std::fmt::Debug {
    /// Opens a circuit to `destination` through `relay`, which may be dialed at `addresses` and
    /// at those known of it.
    fn dial(
        &self,
        relay: PeerId,
        addresses: Vec<Multiaddr>,
        destination: PeerId,
    ) -> BoxFuture<'static, Result<UserStream, CircuitError>>;
}

/// A circuit that a relay has brought.
#[derive(Debug)]
pub struct InboundCircuit {
    /// The bytes.
    pub stream: UserStream,
    /// The relay and its address, as `<address>/p2p/<relay>/p2p-circuit`.
    pub remote: Multiaddr,
    /// What the relay gets once the circuit is accepted.
    pub answer: Bytes,
    /// Dropped at the circuit's end.
    pub ended: DropGuard,
}

/// What the transports above make of an error shows its sources, not the error itself.
#[derive(Debug, thiserror::Error)]
#[error("no circuit")]
struct NoCircuit(#[source] CircuitError);

/// The raw connection of a circuit. The guard of one that a relay has brought tells its end.
pub(super) type Circuit = Attached<Option<DropGuard>>;

/// The node's side of the transport.
#[derive(Debug)]
pub(super) struct CircuitPort {
    dialer: Arc<OnceLock<Arc<dyn CircuitDialer>>>,
    inbound: mpsc::Sender<InboundCircuit>,
}

/// The transport.
pub(super) struct Circuits {
    dialer: Arc<OnceLock<Arc<dyn CircuitDialer>>>,
    inbound: mpsc::Receiver<InboundCircuit>,
    listener: ListenerId,
    relays: Option<Arc<Streams>>,
}

impl Circuits {
    /// A transport without circuits.
    pub(super) fn none() -> Self {
        let (_, inbound) = mpsc::channel(1);
        Self {
            dialer: Arc::default(),
            inbound,
            listener: ListenerId::next(),
            relays: None,
        }
    }

    /// The remote address of a connection to a peer, without `/p2p/<peer>`. That of a circuit is
    /// where this side has reached the relay, and who that is: the address that was dialed may name
    /// the relay alone, or another address of it.
    pub(super) fn remote(
        &self,
    ) -> impl Fn(&ConnectedPoint, PeerId) -> Multiaddr + Clone + Send + use<> {
        let relays = self.relays.clone();
        move |endpoint, peer| {
            let address = remote_address(endpoint, peer);
            let relay = Route::parse(&address).ok().map(|route| route.relay);
            let connected = relays.as_ref().zip(relay).and_then(|(streams, relay)| {
                let connection = streams.peers.get(&relay)?.direct_connection()?;
                Some(through(&connection.remote, relay))
            });
            connected.unwrap_or(address)
        }
    }
}

/// The transport and the node's side of it. `streams` knows where relays are connected.
pub(super) fn pair(streams: &Arc<Streams>) -> (CircuitPort, Circuits) {
    let dialer = Arc::new(OnceLock::new());
    let (sender, inbound) = mpsc::channel(MAX_WAITING);
    let port = CircuitPort {
        dialer: dialer.clone(),
        inbound: sender,
    };
    let circuits = Circuits {
        dialer,
        inbound,
        listener: ListenerId::next(),
        relays: Some(streams.clone()),
    };
    (port, circuits)
}

impl Node {
    /// Sets who opens circuits. There can be one; a second is ignored.
    pub fn set_circuit_dialer(&self, dialer: Arc<dyn CircuitDialer>) {
        let _ = self.0.circuits.dialer.set(dialer);
    }

    /// Makes a connection of `circuit`.
    ///
    /// # Errors
    /// Gives the circuit back if too many wait already, or the node is stopping.
    pub fn accept_circuit(&self, circuit: InboundCircuit) -> Result<(), Box<InboundCircuit>> {
        self.0.circuits.inbound.try_send(circuit).map_err(|error| {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                Limit::WaitingCircuits.hit();
            }
            Box::new(error.into_inner())
        })
    }
}

impl Transport for Circuits {
    type Output = Circuit;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Circuit>>;
    type Dial = BoxFuture<'static, io::Result<Circuit>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        // Circuits are accepted always; there is nothing to listen on.
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if !is_relayed(&address) || options.role.is_listener() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let dialer = self.dialer.get().cloned();
        Ok(async move {
            let route = Route::parse(&address)?;
            let destination = route.destination.ok_or(CircuitError::NoRelay)?;
            let dialer = dialer.ok_or(CircuitError::Off)?;
            dialer.dial(route.relay, route.addresses, destination).await
        }
        .map_ok(|stream| Circuit {
            stream,
            attached: None,
        })
        .map_err(|error| io::Error::other(NoCircuit(error)))
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Poll::Ready(Some(circuit)) = self.inbound.poll_recv(cx) else {
            return Poll::Pending;
        };
        let InboundCircuit {
            mut stream,
            remote,
            answer,
            ended,
        } = circuit;
        Poll::Ready(TransportEvent::Incoming {
            listener_id: self.listener,
            local_addr: remote.clone(),
            send_back_addr: remote,
            upgrade: async move {
                stream.write_all(&answer).await?;
                stream.flush().await?;
                Ok(Circuit {
                    stream,
                    attached: Some(ended),
                })
            }
            .boxed(),
        })
    }
}
