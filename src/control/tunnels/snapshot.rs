//! Tunnels as the report, the status and the metrics tell of them.

use super::{
    counts::Total,
    tunnel::{Info, Kind},
};

/// The tunnels at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Those that there are.
    pub tunnels: Vec<TunnelSnapshot>,
    /// What all have carried, those that have ended too.
    pub totals: Total,
}

/// One tunnel at one moment.
#[derive(Debug, Clone)]
pub struct TunnelSnapshot {
    /// Its number.
    pub id: u64,
    /// Whether this end listens.
    pub is_forward: bool,
    /// Its protocol.
    pub protocol: String,
    /// Where it listens or leads.
    pub address: String,
    /// Whom it leads to.
    pub peer: Option<String>,
    /// How many peers may use it; `None` for all.
    pub allowed: Option<usize>,
    /// What it has carried.
    pub total: Total,
    /// Why the last connection that failed did.
    pub error: Option<String>,
}

impl From<Info> for TunnelSnapshot {
    fn from(info: Info) -> Self {
        Self {
            id: info.id,
            is_forward: matches!(info.kind, Kind::Forward { .. }),
            protocol: info.protocol.to_string(),
            address: info.addr.to_string(),
            peer: match &info.kind {
                Kind::Forward { peer } => Some(peer.to_string()),
                Kind::Expose { .. } => None,
            },
            allowed: match &info.kind {
                Kind::Forward { .. } => None,
                Kind::Expose { allow } => allow.as_ref().map(|peers| peers.len()),
            },
            total: info.total,
            error: info.error,
        }
    }
}
