//! The document that STATUS and `/status.json` give, and that `rp2pd status` reads.
//!
//! Names are added, never changed. A reader takes a name that is missing for empty, so that a
//! program and a daemon of different versions understand each other. Times are seconds unless the
//! name says otherwise, sizes bytes. Texts of peers (`agent`) are as they came: whoever shows them
//! escapes them.

mod snapshot;

use serde::{Deserialize, Serialize};

/// The state of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime: u64,
    pub(crate) peer_id: String,
    pub(crate) control: String,
    pub(crate) addresses: Vec<String>,
    /// `unknown`, `public` or `private`.
    pub(crate) reachability: String,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) peers_connected: usize,
    pub(crate) peers: Vec<Peer>,
    pub(crate) traffic: Traffic,
    pub(crate) streams: Streams,
    pub(crate) clients: Clients,
    pub(crate) handlers: Vec<Handler>,
    pub(crate) tunnels: Vec<Tunnel>,
    pub(crate) dht: Option<Dht>,
    pub(crate) pubsub: Option<PubSub>,
    pub(crate) relay: Option<Relay>,
    pub(crate) autorelay: Option<AutoRelay>,
    pub(crate) memory: Memory,
    /// Limits that were reached, with how often each was.
    pub(crate) limits: Vec<Limit>,
}

/// Peers that the operator names for joining.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bootstrap {
    pub(crate) connected: usize,
    pub(crate) configured: usize,
}

/// A connected peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(crate) id: String,
    /// What it says of its program.
    pub(crate) agent: String,
    /// How many protocols it says that it speaks.
    pub(crate) protocols: usize,
    /// Microseconds; absent before its first answer to a ping.
    pub(crate) round_trip_micros: Option<u64>,
    pub(crate) connections: Vec<Connection>,
}

/// A connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Connection {
    pub(crate) address: String,
    /// `inbound` or `outbound`.
    pub(crate) direction: String,
    pub(crate) transport: String,
    /// Empty on quic.
    pub(crate) security: String,
    /// Empty on quic.
    pub(crate) muxer: String,
    pub(crate) age: u64,
    pub(crate) inbound_streams: usize,
    pub(crate) outbound_streams: usize,
    pub(crate) memory: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// The payload of all connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Traffic {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// What a sample of the two lists covers.
    pub(crate) interval: u64,
    /// Received in each interval of the last ten minutes, the oldest first.
    pub(crate) received_history: Vec<u64>,
    /// The same, sent.
    pub(crate) sent_history: Vec<u64>,
    /// By protocol, in the order of their names.
    pub(crate) protocols: Vec<Protocol>,
}

/// The payload of a protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) streams: usize,
}

/// Inbound streams so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Streams {
    pub(crate) served: u64,
    pub(crate) refused: u64,
}

/// Connections of clients, by what they are used for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Clients {
    pub(crate) requests: usize,
    pub(crate) streams: usize,
    pub(crate) subscriptions: usize,
    pub(crate) persistent: usize,
}

/// Who handles a protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Handler {
    pub(crate) protocol: String,
    pub(crate) builtin: bool,
    pub(crate) streams: usize,
    pub(crate) calls: usize,
}

/// A local port that is carried to a peer, or a service that peers may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tunnel {
    pub(crate) id: u64,
    /// `forward` or `expose`.
    pub(crate) kind: String,
    pub(crate) protocol: String,
    /// Where it listens, or where it leads.
    pub(crate) address: String,
    /// Whom it leads to; empty for a service.
    pub(crate) peer: String,
    /// How many peers may use the service; absent for every peer.
    pub(crate) allowed: Option<usize>,
    pub(crate) open: usize,
    /// So far, as the next three.
    pub(crate) connections: u64,
    pub(crate) failed: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Why the last connection that failed did.
    pub(crate) error: Option<String>,
}

/// The DHT.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dht {
    /// `client` or `server`.
    pub(crate) mode: String,
    pub(crate) peers: usize,
    /// Peers of each k-bucket in use.
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) records: usize,
    pub(crate) providers: usize,
    pub(crate) queries: usize,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
}

/// A k-bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bucket {
    pub(crate) common_prefix_length: usize,
    pub(crate) peers: usize,
}

/// Pubsub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PubSub {
    pub(crate) peers: usize,
    pub(crate) topics: Vec<Topic>,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) lost_by_subscribers: u64,
    pub(crate) lost_by_peers: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
}

/// The relay service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Relay {
    pub(crate) reservations: usize,
    pub(crate) circuits: usize,
    /// So far, as the next two.
    pub(crate) circuits_begun: u64,
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
}

/// Autorelay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AutoRelay {
    /// `idle`, `gather`, `reserve` or `hold`.
    pub(crate) state: String,
    /// Found relays to choose from.
    pub(crate) candidates: usize,
    /// Places that are wanted.
    pub(crate) desired: usize,
    pub(crate) reservations: Vec<Reservation>,
    /// So far, as the next one.
    pub(crate) gained: u64,
    pub(crate) lost: u64,
}

/// A place that a relay holds for the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reservation {
    pub(crate) relay: String,
    /// Whether the operator has named it.
    pub(crate) trusted: bool,
    pub(crate) expires_in: u64,
    /// Bytes of a circuit each way, by the relay's word; 0 is no limit.
    pub(crate) data_limit: u64,
    /// Life of a circuit, in the same way.
    pub(crate) time_limit: u64,
    pub(crate) addresses: Vec<String>,
}

/// A topic that the daemon takes part in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Topic {
    pub(crate) topic: String,
    pub(crate) subscribers: usize,
    pub(crate) peers: usize,
    pub(crate) mesh: usize,
    pub(crate) fanout: usize,
}

/// The memory in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// 0 if nobody looks.
    pub(crate) used: u64,
    pub(crate) limit: u64,
    pub(crate) refuses_connections: bool,
    pub(crate) refuses_streams: bool,
}

/// A limit that was reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limit {
    /// The name of the metric's label.
    pub(crate) name: String,
    /// What it is on.
    pub(crate) text: String,
    pub(crate) count: u64,
}
