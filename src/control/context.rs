//! What all sessions share.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{arrivals::Arrivals, clients::Clients, guard::Guard, tunnels::Tunnels};
use crate::{
    dht::Dht, fixed_limits::fixed_limit, memory::Ledger, node::Node, pubsub::PubSub,
    shutdown::Drain,
};

/// How long a frame may take to arrive once it has begun (SECURITY.md 3). Between frames a
/// client may be silent for ever.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
fixed_limit!("control frame that has begun", time FRAME_TIMEOUT);

/// Bytes of answers collected while further requests are waiting.
pub(crate) const MAX_BATCH: usize = 64 * 1024;
fixed_limit!("answers collected while requests are pipelined", bytes MAX_BATCH);

/// Tells what all layers know.
pub trait Reporter: fmt::Debug + Send + Sync {
    /// The state of the daemon as a JSON document.
    fn status(self: Arc<Self>) -> BoxFuture<'static, Bytes>;
}

/// What every session works with.
#[derive(Debug)]
pub struct Context {
    /// The libp2p host.
    pub node: Node,
    /// The DHT, unless it is off.
    pub dht: Option<Dht>,
    /// Pubsub, unless it is off.
    pub pubsub: Option<PubSub>,
    /// Local ports that are carried to peers.
    pub tunnels: Arc<Tunnels>,
    /// Who may use the control socket, and how far requests reach.
    pub guard: Arc<Guard>,
    /// Places of clients that send requests.
    pub places: Arc<Semaphore>,
    /// How many clients there are.
    pub clients: Arc<Clients>,
    /// Answers STATUS.
    pub reporter: Arc<dyn Reporter>,
    /// Largest frame accepted from a client, or from a peer that makes or answers a call, in
    /// bytes of payload.
    pub max_frame: usize,
    /// What clients make the daemon hold is charged here.
    pub ledger: Arc<Ledger>,
    /// Control requests that are not served yet.
    pub arrivals: Arc<Arrivals>,
    /// Runs the calls.
    pub tasks: TaskTracker,
    /// Ends sessions that wait for a request.
    pub closing: CancellationToken,
    /// Ends pipes on which nothing moves.
    pub drain: Drain,
    /// The turn among the clients that leave.
    pub leaving: Semaphore,
}
