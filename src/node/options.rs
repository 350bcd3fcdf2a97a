//! What a node is built from, and why it may not start.

use std::sync::Arc;

use ipnet::IpNet;
use libp2p::{Multiaddr, pnet::PreSharedKey};
use tokio::task::JoinError;

use super::{
    connmgr::Watermarks, limits::ConnectionLimits, listen::error::ListenError, reach::Reach,
    rules::Rules, transport::TransportUnfit,
};
use crate::{
    descriptors::Descriptors,
    events::Events,
    memory::{Ledger, Pressure},
    wss::Wss,
};

/// What the node is built from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Offer noise.
    pub noise: bool,
    /// Offer tls.
    pub tls: bool,
    /// Offer plaintext.
    pub plaintext: bool,
    /// Talk to peers of this private network alone.
    pub network: Option<PreSharedKey>,
    /// What secure websockets are dialed and listened on with.
    pub wss: Wss,
    /// Offer mplex instead of yamux.
    pub mplex: bool,
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Addresses to tell peers and clients instead of those listened on.
    pub announce: Vec<Multiaddr>,
    /// Hard limits on connections.
    pub limits: ConnectionLimits,
    /// Networks whose addresses may have any number of connections.
    pub exempt: Vec<IpNet>,
    /// When connections are closed that are worth little.
    pub watermarks: Watermarks,
    /// Whether strangers can dial this node, by the operator's word.
    pub forced_reach: Option<Reach>,
    /// Tell circuits instead of public addresses while private.
    pub relays: bool,
    /// Bytes of memory that the process may use, 0 if that is unknown.
    pub memory: u64,
    /// Whether there is memory for inbound connections.
    pub pressure: Arc<Pressure>,
    /// What handshakes are charged to.
    pub ledger: Arc<Ledger>,
    /// Whether there are descriptors for them.
    pub descriptors: Descriptors,
    /// Who may be connected with.
    pub rules: Rules,
    /// Where it tells what happens.
    pub events: Events,
}

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no transport.
    #[error(transparent)]
    Transport(TransportUnfit),
    /// A part of the start has panicked.
    #[error(transparent)]
    Panicked(#[from] JoinError),
    /// Not one of the addresses can be listened on.
    #[error("failed to listen on any addresses: [{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))]
    Listen(Vec<ListenError>),
}
