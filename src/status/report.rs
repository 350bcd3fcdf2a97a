//! The report of SIGUSR1 (COMPATIBILITY.md 1.9). No line starts like one of the banner.

use std::fmt;

use super::Snapshot;
use crate::{
    control::tunnels,
    memory, node, pubsub,
    relay::{self, autorelay},
};

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dht) = &self.dht {
            dht.fmt(f)?;
        }
        of_node(&self.node, f)?;
        if let Some(pubsub) = &self.pubsub {
            of_pubsub(pubsub, f)?;
        }
        if let Some(relay) = &self.relay {
            of_relay(relay, f)?;
        }
        if let Some(now) = &self.autorelay {
            of_autorelay(now, f)?;
        }
        of_tunnels(&self.tunnels, f)?;
        let memory::Snapshot { used, limit, .. } = self.memory;
        if limit > 0 {
            writeln!(f, "Memory: {used} of {limit} bytes")?;
        }
        writeln!(f, "Limits reached:")?;
        for reached in self.limits.iter().filter(|limit| limit.count > 0) {
            writeln!(f, "\t{}: {}", reached.text, reached.count)?;
        }
        writeln!(f, "End of limits")
    }
}

/// Connections and streams as Go lays them out.
fn of_node(node: &node::Snapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let connections = node.peers.iter().map(|peer| peer.connections.len());
    let count: usize = connections.sum();
    writeln!(f, "Connections and streams ({count}):")?;
    for peer in &node.peers {
        for connection in &peer.connections {
            writeln!(f, "{} {}", peer.id, connection.remote)?;
            writeln!(f, "\tprotocols: {}", peer.protocols.join(" "))?;
            writeln!(f, "\tinbound streams ({})", connection.inbound_streams)?;
            writeln!(f, "\tmemory ({} bytes)", connection.memory)?;
        }
    }
    let (served, refused) = (node.served, node.refused);
    writeln!(f, "Inbound streams served: {served}, refused: {refused}")
}

/// One line, or none while there never was a tunnel.
fn of_tunnels(now: &tunnels::Snapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let total = now.totals;
    if now.tunnels.is_empty() && total.total == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "Tunnels: {}, connections: {}, connections so far: {}, failed: {}, bytes received: {}, \
         bytes sent: {}",
        now.tunnels.len(),
        total.open,
        total.total,
        total.failed,
        total.received,
        total.sent
    )
}

/// One line.
fn of_pubsub(now: &pubsub::Snapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "Pubsub messages published: {}, delivered: {}, lost by slow subscribers: {}, \
         lost by slow peers: {}, duplicates: {}, refused: {}",
        now.published,
        now.delivered,
        now.lost_by_subscribers,
        now.lost_by_peers,
        now.duplicates,
        now.rejected
    )
}

/// One line.
fn of_relay(now: &relay::Snapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "Relay reservations: {}, circuits: {}, circuits so far: {}, bytes relayed: {}, refused: {}",
        now.reservations, now.circuits, now.circuits_begun, now.bytes, now.refused
    )
}

/// One line.
fn of_autorelay(now: &autorelay::Snapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "Autorelay: {}, places at relays: {}, candidates: {}, gained: {}, lost: {}",
        now.state.name(),
        now.reservations.len(),
        now.candidates,
        now.counts.opened,
        now.counts.closed
    )
}
