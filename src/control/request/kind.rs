//! What a client can request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use super::{DhtRequest, Rejected, Steer, Tunnelling, Validate, ValidateRecords};
use crate::{
    events::Kinds,
    streams::{Policy, ProtocolName},
    wire::maddr::ControlAddr,
};

/// What a client requests.
#[derive(Debug)]
pub(in crate::control) enum Request {
    /// One call of the node answers it.
    Host(HostRequest),
    /// Without a DHT, that is the answer whatever the parameters are worth.
    Dht(Result<DhtRequest, Rejected>),
    /// Turn the connection into a persistent one.
    Upgrade,
}

impl Request {
    /// Its name in metrics.
    pub(in crate::control) fn verb(&self) -> &'static str {
        match self {
            Self::Host(request) => request.verb(),
            Self::Dht(_) => "dht",
            Self::Upgrade => "persistent_conn_upgrade",
        }
    }
}

/// What a client requests of the host.
#[derive(Debug)]
pub(in crate::control) enum HostRequest {
    Identify,
    Status,
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        timeout: Duration,
    },
    OpenStream {
        peer: PeerId,
        protocols: Vec<ProtocolName>,
        timeout: Duration,
    },
    SetHandler {
        addr: ControlAddr,
        protocols: Vec<ProtocolName>,
        policy: Policy,
    },
    RemoveHandler {
        addr: ControlAddr,
        protocols: Vec<ProtocolName>,
    },
    Disconnect {
        peer: PeerId,
    },
    ListPeers,
    Tag {
        peer: PeerId,
        tag: Bytes,
        weight: i64,
    },
    Untag {
        peer: PeerId,
        tag: Bytes,
    },
    Trim,
    PeerProtocols {
        peer: PeerId,
    },
    PeerInfo {
        peer: PeerId,
    },
    /// Dial addresses and tell what each answers.
    Probe {
        /// Who is to answer, if that is said.
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        timeout: Duration,
    },
    /// Tell what happens.
    Events {
        kinds: Kinds,
        present: bool,
    },
    /// Looked at only if pubsub is on.
    Validate(Result<Validate, Rejected>),
    /// Looked at only if there is a DHT.
    ValidateRecords(Result<ValidateRecords, Rejected>),
    /// See or change what the daemon is.
    Steer(Steer),
    /// Carry local ports to peers.
    Tunnel(Tunnelling),
    /// Looked at only if pubsub is on.
    PubSub(Result<PubSubRequest, Rejected>),
}

impl HostRequest {
    fn verb(&self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Status => "status",
            Self::Connect { .. } => "connect",
            Self::OpenStream { .. } => "stream_open",
            Self::SetHandler { .. } => "stream_handler",
            Self::RemoveHandler { .. } => "remove_stream_handler",
            Self::Disconnect { .. } => "disconnect",
            Self::ListPeers => "list_peers",
            Self::Tag { .. } | Self::Untag { .. } | Self::Trim => "connmanager",
            Self::PeerProtocols { .. } | Self::PeerInfo { .. } => "peerstore",
            Self::Events { .. } => "events",
            Self::Probe { .. } => "probe",
            Self::Validate(_) => "pubsub_validate",
            Self::ValidateRecords(_) => "dht_validator",
            Self::Steer(_) => "control",
            Self::Tunnel(_) => "tunnel",
            Self::PubSub(_) => "pubsub",
        }
    }

    /// Whether it may dial, for as long as its client allows.
    pub(in crate::control) fn dials(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::OpenStream { .. })
    }

    /// Whether it may change which handlers there are.
    pub(in crate::control) fn registers(&self) -> bool {
        matches!(self, Self::SetHandler { .. } | Self::RemoveHandler { .. })
    }

    /// Whether the answer may take longer than the answers before it should wait.
    pub(in crate::control) fn waits(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Connect { .. }
                | Self::OpenStream { .. }
                | Self::Disconnect { .. }
                | Self::PubSub(_)
                | Self::Events { .. }
                | Self::Probe { .. }
                | Self::Tunnel(_)
                | Self::Trim
        ) || matches!(self, Self::Steer(steer) if steer.waits())
    }
}

/// What a client asks of pubsub. The names of topics may be empty.
#[derive(Debug)]
pub(in crate::control) enum PubSubRequest {
    Topics,
    Peers {
        topic: Arc<[u8]>,
    },
    Publish {
        topic: Arc<[u8]>,
        data: Option<Bytes>,
    },
    Subscribe {
        topic: Arc<[u8]>,
    },
}
