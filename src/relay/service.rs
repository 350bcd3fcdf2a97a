//! The relay: grants reservations and passes circuits on, as go-libp2p's relay service does.

mod circuit;
mod reserve;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use circuit::Circuit;

use super::{
    circuits::Circuits,
    message::{self, HOP, HopMessage, MAX_MESSAGE, RelayMessageError, Status, hop_message},
    pipe::{CircuitLimits, Leg},
    reservations::Reservations,
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Account, Pressure, Shed},
    metrics::{Asked, metrics},
    node::Node,
    streams::{InboundStream, Peer, Service, UserStream},
};

/// Time for a peer to say what it wants (go-libp2p's value).
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
fixed_limit!("relay: request", time MESSAGE_TIMEOUT);

/// Time for a peer to take an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a relay may be used for.
#[derive(Debug, Clone, Copy)]
pub struct RelaySettings {
    /// Reservations in all, and in half an hour for one address.
    pub max_reservations: usize,
    /// Circuits of one peer, as source or destination.
    pub max_circuits: usize,
    /// Bytes of one circuit in each direction; 0 is no limit.
    pub data_limit: u64,
    /// Lifetime of a circuit; zero is no limit.
    pub time_limit: Duration,
    /// Bytes read at once from either end of a circuit; at most 128 KiB are.
    pub buffer_size: usize,
}

/// What a [`Relay`] is made from.
pub(crate) struct RelayParts<'a> {
    /// Signs vouchers.
    pub(crate) identity: &'a Keypair,
    pub(crate) node: &'a Node,
    pub(crate) settings: RelaySettings,
    /// Nothing new is taken on while it says that memory is short.
    pub(crate) pressure: Arc<Pressure>,
    /// Runs what ends the circuits.
    pub(crate) tasks: TaskTracker,
    /// Circuits end once it is cancelled.
    pub(crate) closing: CancellationToken,
}

/// A handle to the relay service, cheap to clone.
#[derive(Debug, Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    identity: Keypair,
    node: Node,
    limits: CircuitLimits,
    reservations: Mutex<Reservations<Weak<Peer>>>,
    circuits: Arc<Circuits>,
    pressure: Arc<Pressure>,
    refused: AtomicU64,
    closing: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("limits", &self.limits)
            .field("circuits", &self.circuits)
            .finish_non_exhaustive()
    }
}

/// What a relay does at one moment, and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Reservations that hold.
    pub reservations: usize,
    /// Circuits that run.
    pub circuits: usize,
    /// Circuits so far.
    pub circuits_begun: u64,
    /// Bytes passed on so far, in both directions.
    pub bytes: u64,
    /// Requests refused so far.
    pub refused: u64,
}

impl Relay {
    /// Serves peers until `closing` is cancelled, which ends all circuits.
    pub(crate) fn start(parts: RelayParts<'_>) -> Self {
        let settings = parts.settings;
        let inner = Arc::new(Inner {
            identity: parts.identity.clone(),
            node: parts.node.clone(),
            limits: CircuitLimits {
                data: settings.data_limit,
                time: settings.time_limit,
                buffer: settings.buffer_size,
            },
            reservations: Mutex::new(Reservations::new(
                settings.max_reservations,
                settings.max_circuits,
            )),
            circuits: Arc::default(),
            pressure: parts.pressure,
            refused: AtomicU64::new(0),
            closing: parts.closing.clone(),
        });
        let (circuits, closing) = (inner.circuits.clone(), parts.closing);
        parts.tasks.spawn(async move {
            closing.cancelled().await;
            circuits.close();
        });
        let registry = &parts.node.streams().registry;
        registry.set_service(HOP, Some(inner.service()));
        tracing::info!(?settings, "relaying for others");
        Self(inner)
    }

    /// The relay at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = &self.0;
        Snapshot {
            reservations: inner.reservations.lock().count(Instant::now()),
            circuits: inner.circuits.count(),
            circuits_begun: inner.circuits.begun(),
            bytes: inner.circuits.moved(),
            refused: inner.refused.load(Relaxed),
        }
    }
}

impl Shed for Relay {
    /// Idle circuits hold next to nothing.
    fn trim(&self) {}

    /// Ends circuits, not the connections they run on.
    fn shed(&self, bytes: u64) -> u64 {
        self.0.circuits.shed(bytes)
    }
}

/// What a peer asks a relay for.
enum Request {
    Reserve,
    Connect(PeerId),
}

/// What a peer gets.
enum Agreed {
    /// A place, which this tells it.
    Reservation(HopMessage),
    Circuit(Box<Circuit>),
}

/// A circuit, the stream of the peer that asked for it, and the account of that peer.
type Opened = (Box<Circuit>, Leg, Arc<Account>);

impl Inner {
    fn service(self: &Arc<Self>) -> Service {
        let relay = self.clone();
        // A connection with a circuit is in use, and a circuit is not to take a lock of all
        // streams each time it is polled.
        Service::lasting(Box::new(move |inbound| {
            let relay = relay.clone();
            Box::pin(async move { relay.serve(inbound).await })
        }))
    }

    async fn serve(self: Arc<Self>, inbound: InboundStream) {
        let negotiation = Box::pin(self.negotiate(inbound));
        let negotiated = self.closing.run_until_cancelled(negotiation).await;
        if let Some(Some((circuit, source, account))) = negotiated {
            circuit.run(source, &account).await;
        }
    }

    /// Does what is asked for on the stream. A circuit is yet to be run.
    async fn negotiate(self: &Arc<Self>, mut inbound: InboundStream) -> Option<Opened> {
        let peer = inbound.peer;
        match self.agree(&mut inbound).await {
            Ok(Some(Agreed::Circuit(circuit))) => {
                let source = Leg {
                    stream: inbound.stream,
                    attached: inbound.connection,
                };
                return Some((circuit, source, inbound.account));
            }
            Ok(Some(Agreed::Reservation(granted))) => {
                if !answer(inbound.stream, &granted).await {
                    self.retract(&peer);
                }
            }
            Ok(None) => {}
            Err(status) => {
                self.refused.fetch_add(1, Relaxed);
                tracing::debug!(%peer, ?status, "relay request refused");
                if status == Status::MalformedMessage {
                    self.node.misbehaves(&peer, "relay", "malformed message");
                }
                // Who does not take it learns by the reset.
                let _ = answer(inbound.stream, &message::hop_status(status)).await;
            }
        }
        None
    }

    async fn agree(
        self: &Arc<Self>,
        inbound: &mut InboundStream,
    ) -> Result<Option<Agreed>, Status> {
        // Nobody has to finish what it begins.
        let charge = inbound.account.charge(MAX_MESSAGE);
        let charge = charge.map_err(|_| Status::ResourceLimitExceeded)?;
        let Some(request) = receive(&mut inbound.stream).await? else {
            return Ok(None);
        };
        drop(charge);
        let asked = match request {
            Request::Reserve => Asked::Reservation,
            Request::Connect(_) => Asked::Circuit,
        };
        let agreed = self.grant(inbound, request).await;
        let status = match &agreed {
            Ok(Some(_)) => Some(Status::Ok),
            // Nobody is left to answer.
            Ok(None) => None,
            Err(status) => Some(*status),
        };
        if let Some(status) = status {
            let relay = &metrics().relay;
            relay.answered(asked, status.label(), status.rejection());
        }
        agreed
    }

    async fn grant(
        self: &Arc<Self>,
        inbound: &mut InboundStream,
        request: Request,
    ) -> Result<Option<Agreed>, Status> {
        if self.pressure.refuses_connections() {
            Limit::RelayMemory.hit();
            return Err(Status::ResourceLimitExceeded);
        }
        // No circuit leads through another.
        if is_relayed(&inbound.remote) {
            return Err(Status::PermissionDenied);
        }
        match request {
            Request::Reserve => {
                let granted = self.reserve(inbound)?;
                Ok(Some(Agreed::Reservation(granted)))
            }
            Request::Connect(destination) => {
                let circuit = self.connect(inbound, destination).await?;
                Ok(circuit.map(|circuit| Agreed::Circuit(Box::new(circuit))))
            }
        }
    }
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// What the peer wants; `None` if it has left.
async fn receive(stream: &mut UserStream) -> Result<Option<Request>, Status> {
    let reading = message::read::<HopMessage>(stream);
    let request = match timeout(MESSAGE_TIMEOUT, reading).await {
        Ok(Ok(request)) => request,
        Ok(Err(RelayMessageError::Stream(error)))
            if error.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            return Ok(None);
        }
        Ok(Err(_)) | Err(_) => return Err(Status::MalformedMessage),
    };
    let kind = request.r#type.map(hop_message::Type::try_from);
    match kind {
        Some(Ok(hop_message::Type::Reserve)) => Ok(Some(Request::Reserve)),
        Some(Ok(hop_message::Type::Connect)) => {
            let destination = message::peer_id(request.peer.as_ref());
            let destination = destination.ok_or(Status::MalformedMessage)?;
            Ok(Some(Request::Connect(destination)))
        }
        // Go has no other word for a message of a wrong kind.
        _ => Err(Status::MalformedMessage),
    }
}

/// Says the last word on a stream. False if the peer does not take it.
async fn answer(stream: UserStream, message: &HopMessage) -> bool {
    // The peer need not have finished its side: a reset would overtake the answer.
    let mut stream = stream.close_only();
    let said = async {
        message::write(&mut stream, message).await?;
        stream.close().await
    };
    matches!(timeout(ANSWER_TIMEOUT, said).await, Ok(Ok(())))
}
