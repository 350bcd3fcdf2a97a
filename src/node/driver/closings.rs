//! Callers that wait for connections to close.

use std::collections::HashSet;

use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;

#[derive(Debug)]
struct Closing {
    connections: HashSet<ConnectionId>,
    reply: oneshot::Sender<()>,
}

/// Connections that callers wait for. Each caller has at least one that is still open.
#[derive(Debug, Default)]
pub(super) struct Closings(Vec<Closing>);

impl Closings {
    /// `reply` is told once all of `connections`, which is not empty, have closed.
    pub(super) fn add(&mut self, connections: HashSet<ConnectionId>, reply: oneshot::Sender<()>) {
        self.0.push(Closing { connections, reply });
    }

    /// One has closed.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        let done = self.0.extract_if(.., |closing| {
            closing.connections.remove(&connection);
            closing.connections.is_empty()
        });
        for closing in done {
            // The caller may have gone.
            let _ = closing.reply.send(());
        }
    }
}
