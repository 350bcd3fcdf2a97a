//! One tunnel: what was asked for, and what has become of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::counts::{Counted, Counts, Open, Total};
use crate::{
    control::{
        pipe::{End, Pipe},
        socket::Socket,
    },
    events::{Event, Events, Kind as EventKind},
    limit_hits::Limit,
    memory::Charge,
    shutdown::Drain,
    streams::{ProtocolName, RequestOrigin, UserStream},
    wire::maddr::ControlAddr,
};

/// Bytes that are charged for a tunnel beside its lists.
const BASE: usize = 2048;

/// The same, for an entry of a list.
const ENTRY: usize = 128;

/// A local port that leads to a peer.
#[derive(Debug)]
pub(in crate::control) struct Forward {
    pub(in crate::control) protocol: ProtocolName,
    pub(in crate::control) listen: ControlAddr,
    pub(in crate::control) peer: PeerId,
    /// Where to dial it beside what is known.
    pub(in crate::control) addresses: Vec<Multiaddr>,
    /// Who may connect to a unix path, if that is said.
    pub(in crate::control) uids: Vec<u32>,
    pub(in crate::control) any_interface: bool,
    /// From where tcp connections may come beside loopback; from anywhere if empty.
    pub(in crate::control) networks: Vec<IpNet>,
}

impl Forward {
    pub(super) fn size(&self) -> usize {
        let addresses: usize = self.addresses.iter().map(|one| ENTRY + one.len()).sum();
        BASE + self.protocol.as_bytes().len()
            + addresses
            + ENTRY * (self.uids.len() + self.networks.len())
    }

    /// Users that may connect to a unix path.
    pub(super) fn users(&self, origin: RequestOrigin) -> Vec<u32> {
        if !self.uids.is_empty() {
            return self.uids.clone();
        }
        let mut users = vec![0, rustix::process::geteuid().as_raw()];
        if let RequestOrigin::User(uid) = origin {
            users.push(uid);
        }
        users
    }
}

/// A local service that peers may use.
#[derive(Debug)]
pub(in crate::control) struct Expose {
    pub(in crate::control) protocol: ProtocolName,
    pub(in crate::control) target: ControlAddr,
    /// Who may use it; `None` for every peer.
    pub(in crate::control) allow: Option<Arc<[PeerId]>>,
}

impl Expose {
    pub(super) fn size(&self) -> usize {
        let allowed = self.allow.as_ref().map_or(0, |peers| peers.len());
        BASE + self.protocol.as_bytes().len() + ENTRY * allowed
    }
}

/// How a tunnel of either kind is made.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct Shape {
    /// Connections at once.
    pub(in crate::control) connections: u32,
    /// Whether it outlasts the control connection.
    pub(in crate::control) keep: bool,
}

#[derive(Debug, Clone)]
pub(in crate::control) enum Kind {
    Forward { peer: PeerId },
    Expose { allow: Option<Arc<[PeerId]>> },
}

impl Kind {
    /// How many peers are listed.
    pub(in crate::control) fn allowed(&self) -> usize {
        match self {
            Self::Forward { .. } => 0,
            Self::Expose { allow } => allow.as_ref().map_or(0, |peers| peers.len()),
        }
    }
}

/// A tunnel at one moment.
#[derive(Debug, Clone)]
pub(in crate::control) struct Info {
    pub(in crate::control) id: u64,
    pub(in crate::control) kind: Kind,
    pub(in crate::control) protocol: ProtocolName,
    /// Where it listens or leads.
    pub(in crate::control) addr: ControlAddr,
    pub(in crate::control) shape: Shape,
    pub(in crate::control) total: Total,
    pub(in crate::control) error: Option<String>,
}

#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) protocol: ProtocolName,
    pub(super) addr: ControlAddr,
    /// Ends it and its connections.
    pub(super) closed: CancellationToken,
    shape: Shape,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
    totals: Arc<Counts>,
    error: Mutex<Option<String>>,
    events: Events,
    _charge: Charge,
}

impl Tunnel {
    #[expect(clippy::too_many_arguments, reason = "called in one place")]
    pub(super) fn new(
        id: u64,
        kind: Kind,
        protocol: ProtocolName,
        addr: ControlAddr,
        shape: Shape,
        charge: Charge,
        totals: Arc<Counts>,
        events: Events,
    ) -> Self {
        Self {
            id,
            kind,
            protocol,
            addr,
            closed: CancellationToken::new(),
            places: Arc::new(Semaphore::new(shape.connections as usize)),
            shape,
            counts: Arc::default(),
            totals,
            error: Mutex::default(),
            events,
            _charge: charge,
        }
    }

    pub(super) fn info(&self) -> Info {
        Info {
            id: self.id,
            kind: self.kind.clone(),
            protocol: self.protocol.clone(),
            addr: self.addr.clone(),
            shape: self.shape,
            total: self.counts.total(),
            error: self.error.lock().clone(),
        }
    }

    /// A further connection, if there may be one.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.counts.came();
        self.totals.came();
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none() {
            Limit::TunnelConnections.hit();
        }
        place
    }

    pub(super) fn open(&self) -> Open {
        Open::new([self.counts.clone(), self.totals.clone()])
    }

    /// A connection with `peer` has failed or was refused.
    pub(super) fn fail(&self, peer: PeerId, reason: String) {
        tracing::debug!(tunnel = self.id, %peer, protocol = %self.protocol, reason, "tunnel: a connection failed");
        self.counts.failed();
        self.totals.failed();
        // Whoever is told finds it in a list as well.
        *self.error.lock() = Some(reason.clone());
        self.events
            .tell(EventKind::TunnelFailed, || Event::TunnelFailed {
                peer,
                protocol: Bytes::copy_from_slice(self.protocol.as_bytes()),
                addr: self.addr.clone(),
                reason,
            });
    }
}

/// A connection whose two sides are there.
pub(super) struct Carried {
    tunnel: Arc<Tunnel>,
    peer: PeerId,
    heard: Arc<AtomicU64>,
    pipe: Pipe<Counted>,
    /// What to say of a stream that is reset before its first byte, if that is to be said.
    mute: Option<&'static str>,
    _places: Vec<OwnedSemaphorePermit>,
}

impl Carried {
    pub(super) fn new(
        tunnel: Arc<Tunnel>,
        peer: PeerId,
        socket: Socket,
        stream: (UserStream, Open),
        drain: Drain,
        mute: Option<&'static str>,
        places: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        let heard = Arc::new(AtomicU64::new(0));
        let stream = Counted::new(stream.0, stream.1, heard.clone());
        let pipe = Pipe::new(socket, stream, Bytes::new(), Bytes::new(), drain);
        Self {
            tunnel,
            peer,
            heard,
            pipe: pipe.resetting(),
            mute,
            _places: places,
        }
    }

    /// Carries bytes until both sides have ended, or the tunnel does.
    pub(super) async fn run(self) {
        let ended = self.tunnel.closed.run_until_cancelled(self.pipe).await;
        if let (Some(End::Reset), Some(reason), 0) = (ended, self.mute, self.heard.load(Relaxed)) {
            self.tunnel.fail(self.peer, reason.to_owned());
        }
    }
}
