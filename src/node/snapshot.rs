//! The node at one moment, for whoever reports it.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use libp2p::{Multiaddr, PeerId};

use super::Node;
use crate::{
    muxer::Connection,
    streams::{Handlers, Moved, Peer, ProtocolName},
    wire::carrier::transport_name,
};

/// The node at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// This daemon's peer id.
    pub peer_id: PeerId,
    /// Its addresses.
    pub addresses: Arc<[Multiaddr]>,
    /// Connected peers, in no order.
    pub peers: Vec<PeerSnapshot>,
    /// Who handles which protocol, in the order of the names.
    pub handlers: Vec<Handlers>,
    /// How many protocols identify tells peers.
    pub announced: usize,
    /// Inbound user streams served so far.
    pub served: u64,
    /// Inbound streams reset so far because a limit was reached.
    pub refused: u64,
    /// Payload received on all connections since the start, in bytes.
    pub received: u64,
    /// Payload sent on all connections since the start, in bytes.
    pub sent: u64,
    /// What has moved of each protocol, by their names. Clients and the daemon itself choose them.
    pub moved: Vec<(ProtocolName, Moved)>,
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// Its id.
    pub id: PeerId,
    /// What it says of its program: a stranger's text of 128 bytes at most.
    pub agent: Option<Arc<str>>,
    /// What identify says that it speaks, none before identify has finished.
    pub protocols: Arc<[String]>,
    /// How long its last answer to a ping took.
    pub round_trip: Option<Duration>,
    /// Its connections, the oldest first.
    pub connections: Vec<ConnectionSnapshot>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct ConnectionSnapshot {
    /// The remote's address, without `/p2p/<peer>`.
    pub remote: Multiaddr,
    /// Whether this side dialed.
    pub dialed: bool,
    /// `tcp`, `ws`, `wss`, `quic-v1` or `p2p-circuit`.
    pub transport: &'static str,
    /// Name of the security protocol; empty on quic, which has its own.
    pub security: &'static str,
    /// Name of the multiplexer; empty on quic.
    pub muxer: &'static str,
    /// Since it was made.
    pub age: Duration,
    /// Streams that the peer has opened and that are open.
    pub inbound_streams: usize,
    /// Streams that this side has opened and that are open.
    pub outbound_streams: usize,
    /// Bytes of memory that its streams take.
    pub memory: u64,
    /// Payload received, in bytes.
    pub received: u64,
    /// Payload sent, in bytes.
    pub sent: u64,
}

impl Node {
    /// What the node knows at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let streams = self.streams();
        let (received, sent) = streams.peers.traffic();
        let peers = streams.peers.list();
        Snapshot {
            peer_id: self.peer_id(),
            addresses: self.addresses(),
            peers: peers.iter().map(|(id, peer)| of_peer(*id, peer)).collect(),
            handlers: streams.registry.handlers(),
            announced: streams.registry.announced_count(),
            served: streams.counters.served.load(Relaxed),
            refused: streams.counters.refused.load(Relaxed),
            received,
            sent,
            moved: streams.traffic.protocols(),
        }
    }
}

fn of_peer(id: PeerId, peer: &Peer) -> PeerSnapshot {
    let connections = peer.connections();
    PeerSnapshot {
        id,
        agent: peer.agent(),
        protocols: peer.protocols().unwrap_or_default(),
        round_trip: peer.round_trip(),
        connections: connections.iter().map(|one| of_connection(one)).collect(),
    }
}

fn of_connection(connection: &Connection) -> ConnectionSnapshot {
    ConnectionSnapshot {
        remote: connection.remote.clone(),
        dialed: connection.dialed,
        transport: transport_name(&connection.remote),
        security: connection.security,
        muxer: connection.muxer,
        age: connection.since.elapsed(),
        inbound_streams: connection.inbound_streams(),
        outbound_streams: connection.outbound_streams(),
        memory: connection.memory(),
        received: connection.received(),
        sent: connection.sent(),
    }
}
