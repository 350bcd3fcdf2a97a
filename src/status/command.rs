//! `rp2pd status`: what a running daemon says, as text. `ping` and `probe` have a file of their own.
//!
//! The text is for eyes and for `grep`: one fact a line above, one row a peer below, no colours, no
//! widths of a terminal. Programs take `--json`.

mod call;
mod dials;
mod tunnels;

use std::{fmt::Write as _, time::Duration};

pub use call::call;
pub use dials::{ping, probe};
pub use tunnels::{close, expose, forward, list};

use super::{
    document::{Connection, Document, Peer},
    table::{Table, size, time},
};
use crate::{
    client::{Client, ClientError},
    telemetry::escaped,
    wire::{json::JsonError, maddr::ControlAddr, pb},
};

/// A daemon that needs longer hangs.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a command has nothing to tell.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The daemon does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer is no document.
    #[error("the answer of the daemon cannot be read")]
    Document(#[source] serde_json::Error),
    /// What was named is neither a peer id nor an address of a peer.
    #[error("{0}: not a peer id, and not an address that ends in /p2p/PEER")]
    Target(String),
    /// What was named is no place of a service.
    #[error("{0}: not a port, and not an address such as 127.0.0.1:8080 or /unix/tmp/x.sock")]
    Place(String),
    /// What was asked for is no request.
    #[error(transparent)]
    Call(#[from] JsonError),
    /// The connection of the request would be no more for requests.
    #[error("this request becomes a stream or waits for verdicts: it needs a client")]
    Stream,
    /// Two peers are named.
    #[error("{0} and {1}: addresses of one peer are probed at once, not of two")]
    TwoPeers(String, String),
    /// Nobody answers at any of the addresses.
    #[error("nobody answers")]
    Nobody,
    /// No ping came back.
    #[error("no answer to {0} pings")]
    Silent(u32),
}

/// The state of the daemon at `addr`, as text or, `json`, as the document.
///
/// # Errors
/// [`CommandError`].
pub fn status(addr: &ControlAddr, json: bool) -> Result<String, CommandError> {
    let bytes = document(addr)?;
    if json {
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(CommandError::Document)?;
        return Ok(format!("{value:#}\n"));
    }
    let document = serde_json::from_slice(&bytes).map_err(CommandError::Document)?;
    Ok(text(&document))
}

fn document(addr: &ControlAddr) -> Result<bytes::Bytes, ClientError> {
    let mut client = Client::connect(addr, ANSWER)?;
    let request = pb::Request {
        r#type: Some(i32::from(pb::request::Type::Status).into()),
        ..pb::Request::default()
    };
    let answer = client.ask_own(&request, ANSWER)?;
    answer
        .status
        .ok_or_else(|| ClientError::Unknown(addr.clone()))
}

fn of_connection(connection: &Connection) -> String {
    let security = [
        &connection.transport,
        &connection.security,
        &connection.muxer,
    ];
    let parts: Vec<_> = security
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let parts = parts
        .iter()
        .map(|part| part.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    format!(
        "{} {} {parts}, {}",
        connection.direction,
        connection.address,
        time(connection.age)
    )
}

fn agent(peer: &Peer) -> String {
    match peer.agent.as_str() {
        "" => "-".to_owned(),
        agent => escaped(agent),
    }
}

fn round_trip(peer: &Peer) -> String {
    peer.round_trip_micros.map_or_else(
        || "-".to_owned(),
        |micros| format!("{:.1}ms", micros as f64 / 1000.0),
    )
}

/// The whole document.
fn text(now: &Document) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<13}{value}");
    };
    fact("version", format!("rp2pd {}", now.version));
    fact("up", format!("{}, pid {}", time(now.uptime), now.pid));
    fact("peer", now.peer_id.clone());
    fact("control", now.control.clone());
    for address in &now.addresses {
        fact("address", address.clone());
    }
    fact("reachability", now.reachability.clone());
    let bootstrap = &now.bootstrap;
    fact(
        "bootstrap",
        format!("{} of {} peers", bootstrap.connected, bootstrap.configured),
    );
    fact(
        "memory",
        match now.memory.limit {
            0 => "not watched".to_owned(),
            limit => format!("{} of {}", size(now.memory.used), size(limit)),
        },
    );
    let traffic = &now.traffic;
    fact(
        "traffic",
        format!(
            "{} received, {} sent",
            size(traffic.received),
            size(traffic.sent)
        ),
    );
    let streams = &now.streams;
    fact(
        "streams",
        format!("{} served, {} refused", streams.served, streams.refused),
    );
    let clients = &now.clients;
    fact(
        "clients",
        format!(
            "{} with requests, {} with streams, {} subscribed, {} persistent",
            clients.requests, clients.streams, clients.subscriptions, clients.persistent
        ),
    );
    fact("dht", now.dht.as_ref().map_or_else(|| "off".to_owned(), |dht| {
        format!(
            "{}, {} peers in {} buckets, {} records, {} providers, {} queries; answered {}, refused {}, failed {}",
            dht.mode, dht.peers, dht.buckets.len(), dht.records, dht.providers, dht.queries,
            dht.answered, dht.refused, dht.failed
        )
    }));
    fact(
        "pubsub",
        now.pubsub.as_ref().map_or_else(
            || "off".to_owned(),
            |pubsub| {
                format!(
                    "{} peers; published {}, delivered {}, duplicates {}, rejected {}, lost {}",
                    pubsub.peers,
                    pubsub.published,
                    pubsub.delivered,
                    pubsub.duplicates,
                    pubsub.rejected,
                    pubsub.lost_by_peers + pubsub.lost_by_subscribers
                )
            },
        ),
    );
    fact(
        "autorelay",
        now.autorelay.as_ref().map_or_else(
            || "off".to_owned(),
            |auto| {
                format!(
                    "{}, {} of {} places at relays, {} candidates; gained {}, lost {}",
                    auto.state,
                    auto.reservations.len(),
                    auto.desired,
                    auto.candidates,
                    auto.gained,
                    auto.lost
                )
            },
        ),
    );
    out + &relays(now) + &peers(now) + &handlers(now) + &tunnels(now) + &topics(now) + &limits(now)
}

/// Nothing without autorelay.
fn relays(now: &Document) -> String {
    let Some(auto) = &now.autorelay else {
        return String::new();
    };
    let unlimited = |limit: u64, text: String| match limit {
        0 => "no_limit".to_owned(),
        _ => text.replace(' ', ""),
    };
    let mut table = Table::new(&["RELAY", "TRUSTED", "EXPIRES", "DATA", "TIME", "ADDRESS"]);
    for held in &auto.reservations {
        table.row([
            held.relay.clone(),
            if held.trusted { "yes" } else { "no" }.to_owned(),
            time(held.expires_in).replace(' ', ""),
            unlimited(held.data_limit, size(held.data_limit)),
            unlimited(held.time_limit, time(held.time_limit)),
            held.addresses.first().cloned().unwrap_or_default(),
        ]);
    }
    format!("\nRELAYS {}\n{}", auto.reservations.len(), table.text())
}

fn peers(now: &Document) -> String {
    let mut table = Table::new(&[
        "PEER",
        "AGENT",
        "DIR",
        "TRANSPORT",
        "SECURITY",
        "AGE",
        "RTT",
        "RECEIVED",
        "SENT",
        "PROTOCOLS",
        "ADDRESS",
    ]);
    for peer in &now.peers {
        for connection in &peer.connections {
            table.row([
                peer.id.clone(),
                agent(peer).replace(char::is_whitespace, "_"),
                connection.direction.clone(),
                connection.transport.clone(),
                connection.security.clone(),
                time(connection.age).replace(' ', ""),
                round_trip(peer),
                size(connection.received).replace(' ', ""),
                size(connection.sent).replace(' ', ""),
                peer.protocols.to_string(),
                connection.address.clone(),
            ]);
        }
    }
    let mut out = format!("\nPEERS {}\n{}", now.peers_connected, table.text());
    if now.peers.len() < now.peers_connected {
        let _ = writeln!(out, "and {} more", now.peers_connected - now.peers.len());
    }
    out
}

fn handlers(now: &Document) -> String {
    let mut table = Table::new(&["PROTOCOL", "OF", "STREAMS", "CALLS"]);
    for handler in &now.handlers {
        table.row([
            escaped(&handler.protocol),
            if handler.builtin { "daemon" } else { "clients" }.to_owned(),
            handler.streams.to_string(),
            handler.calls.to_string(),
        ]);
    }
    format!("\nHANDLERS {}\n{}", now.handlers.len(), table.text())
}

/// Nothing without tunnels.
fn tunnels(now: &Document) -> String {
    if now.tunnels.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "TUNNEL", "KIND", "PROTOCOL", "ADDRESS", "PEER", "OPEN", "SO FAR", "FAILED", "RECEIVED",
        "SENT",
    ]);
    for tunnel in &now.tunnels {
        table.row([
            tunnel.id.to_string(),
            tunnel.kind.clone(),
            escaped(&tunnel.protocol),
            escaped(&tunnel.address),
            match (tunnel.kind.as_str(), tunnel.allowed) {
                ("forward", _) => tunnel.peer.clone(),
                (_, Some(allowed)) => format!("{allowed} allowed"),
                (_, None) => "all".to_owned(),
            }
            .replace(' ', "_"),
            tunnel.open.to_string(),
            tunnel.connections.to_string(),
            tunnel.failed.to_string(),
            size(tunnel.received).replace(' ', ""),
            size(tunnel.sent).replace(' ', ""),
        ]);
    }
    format!("\nTUNNELS {}\n{}", now.tunnels.len(), table.text())
}

fn topics(now: &Document) -> String {
    let topics = now.pubsub.as_ref().map_or(&[][..], |pubsub| &pubsub.topics);
    let mut table = Table::new(&["TOPIC", "SUBSCRIBERS", "PEERS", "MESH", "FANOUT"]);
    for topic in topics {
        table.row([
            escaped(&topic.topic),
            topic.subscribers.to_string(),
            topic.peers.to_string(),
            topic.mesh.to_string(),
            topic.fanout.to_string(),
        ]);
    }
    format!("\nTOPICS {}\n{}", topics.len(), table.text())
}

fn limits(now: &Document) -> String {
    let mut table = Table::new(&["TIMES", "LIMIT"]);
    for limit in &now.limits {
        table.row([limit.count.to_string(), limit.text.clone()]);
    }
    format!("\nLIMITS REACHED {}\n{}", now.limits.len(), table.text())
}
