//! The document of a snapshot.

use tokio::time::Instant;

use super::{
    super::Snapshot, AutoRelay, Bootstrap, Bucket, Clients, Connection, Dht, Document, Handler,
    Limit, Memory, Peer, Protocol, PubSub, Relay, Reservation, Streams, Topic, Traffic, Tunnel,
};
use crate::{
    control::tunnels::TunnelSnapshot,
    dht::Mode,
    node::{self, Reach},
    relay::autorelay,
    streams::{Moved, ProtocolName},
};

/// Peers that a document names. The number of all is in `peers_connected`.
const MAX_PEERS: usize = 4096;

impl Document {
    /// The document of what was known at one moment.
    #[must_use]
    pub(crate) fn of(now: &Snapshot) -> Self {
        let node = &now.node;
        let reached = now.limits.iter().filter(|limit| limit.count > 0);
        let mut peers: Vec<_> = node.peers.iter().take(MAX_PEERS).map(of_peer).collect();
        // A table that is read again and again must not jump.
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: now.uptime.as_secs(),
            peer_id: node.peer_id.to_string(),
            control: now.control.to_string(),
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            reachability: match now.reach {
                Reach::Unknown => "unknown",
                Reach::Public => "public",
                Reach::Private => "private",
            }
            .to_owned(),
            bootstrap: Bootstrap {
                connected: now.bootstrap.0,
                configured: now.bootstrap.1,
            },
            peers_connected: node.peers.len(),
            peers,
            traffic: Traffic {
                received: node.received,
                sent: node.sent,
                interval: now.traffic.interval.as_secs(),
                received_history: now.traffic.samples.iter().map(|one| one.0).collect(),
                sent_history: now.traffic.samples.iter().map(|one| one.1).collect(),
                protocols: node.moved.iter().map(of_protocol).collect(),
            },
            streams: Streams {
                served: node.served,
                refused: node.refused,
            },
            clients: Clients {
                requests: now.clients.requests,
                streams: now.clients.streams,
                subscriptions: now.clients.subscriptions,
                persistent: now.clients.persistent,
            },
            handlers: node
                .handlers
                .iter()
                .map(|handlers| Handler {
                    protocol: handlers.protocol.clone(),
                    builtin: handlers.is_builtin,
                    streams: handlers.streams,
                    calls: handlers.calls,
                })
                .collect(),
            tunnels: now.tunnels.tunnels.iter().map(Tunnel::of).collect(),
            dht: now.dht.as_ref().map(Dht::of),
            pubsub: now.pubsub.as_ref().map(PubSub::of),
            relay: now.relay.as_ref().map(|now| Relay {
                reservations: now.reservations,
                circuits: now.circuits,
                circuits_begun: now.circuits_begun,
                bytes: now.bytes,
                refused: now.refused,
            }),
            autorelay: now.autorelay.as_ref().map(AutoRelay::of),
            memory: Memory {
                used: now.memory.used,
                limit: now.memory.limit,
                refuses_connections: now.memory.refuses_connections,
                refuses_streams: now.memory.refuses_streams,
            },
            limits: reached
                .map(|reached| Limit {
                    name: reached.limit.label(),
                    text: reached.text.to_owned(),
                    count: reached.count,
                })
                .collect(),
        }
    }
}

fn of_protocol((name, moved): &(ProtocolName, Moved)) -> Protocol {
    Protocol {
        name: name.to_string(),
        received: moved.received,
        sent: moved.sent,
        streams: moved.streams,
    }
}

fn of_peer(peer: &node::PeerSnapshot) -> Peer {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Peer {
        id: peer.id.to_string(),
        agent: peer.agent.as_deref().unwrap_or_default().to_owned(),
        protocols: peer.protocols.len(),
        round_trip_micros: peer.round_trip.map(micros),
        connections: peer
            .connections
            .iter()
            .map(|connection| Connection {
                address: connection.remote.to_string(),
                direction: if connection.dialed {
                    "outbound"
                } else {
                    "inbound"
                }
                .to_owned(),
                transport: connection.transport.to_owned(),
                security: connection.security.to_owned(),
                muxer: connection.muxer.to_owned(),
                age: connection.age.as_secs(),
                inbound_streams: connection.inbound_streams,
                outbound_streams: connection.outbound_streams,
                memory: connection.memory,
                received: connection.received,
                sent: connection.sent,
            })
            .collect(),
    }
}

impl AutoRelay {
    fn of(now: &autorelay::Snapshot) -> Self {
        let held = now.reservations.iter().map(|held| Reservation {
            relay: held.relay.to_string(),
            trusted: held.trusted,
            expires_in: held
                .expires
                .saturating_duration_since(Instant::now())
                .as_secs(),
            data_limit: held.allowance.data,
            time_limit: held.allowance.time.as_secs(),
            addresses: held.addresses.iter().map(ToString::to_string).collect(),
        });
        Self {
            state: now.state.name().to_owned(),
            candidates: now.candidates,
            desired: now.desired,
            reservations: held.collect(),
            gained: now.counts.opened,
            lost: now.counts.closed,
        }
    }
}

impl Tunnel {
    fn of(now: &TunnelSnapshot) -> Self {
        Self {
            id: now.id,
            kind: if now.is_forward { "forward" } else { "expose" }.to_owned(),
            protocol: now.protocol.clone(),
            address: now.address.clone(),
            peer: now.peer.clone().unwrap_or_default(),
            allowed: now.allowed,
            open: now.total.open,
            connections: now.total.total,
            failed: now.total.failed,
            received: now.total.received,
            sent: now.total.sent,
            error: now.error.clone(),
        }
    }
}

impl Dht {
    fn of(now: &crate::dht::Snapshot) -> Self {
        Self {
            mode: match now.mode {
                Mode::Client => "client",
                Mode::Server => "server",
            }
            .to_owned(),
            peers: now.table_size(),
            buckets: now
                .buckets
                .iter()
                .map(|(length, peers)| Bucket {
                    common_prefix_length: *length,
                    peers: peers.len(),
                })
                .collect(),
            records: now.records.entries,
            providers: now.providers.entries,
            queries: now.queries,
            answered: now.answered,
            refused: now.refused,
            failed: now.failed,
        }
    }
}

impl PubSub {
    fn of(now: &crate::pubsub::Snapshot) -> Self {
        Self {
            peers: now.peers.len(),
            topics: now
                .topics
                .iter()
                .map(|(topic, state)| Topic {
                    topic: String::from_utf8_lossy(topic).into_owned(),
                    subscribers: state.subscribers,
                    peers: state.peers,
                    mesh: state.mesh,
                    fanout: state.fanout,
                })
                .collect(),
            published: now.published,
            delivered: now.delivered,
            lost_by_subscribers: now.lost_by_subscribers,
            lost_by_peers: now.lost_by_peers,
            duplicates: now.duplicates,
            rejected: now.rejected,
        }
    }
}
