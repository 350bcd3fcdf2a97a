//! What clients are told of connections.
//!
//! Whoever wants to begin with the connections that there are is added here as well: in between two
//! events of the swarm, so that none is lost and none is told twice.

use std::{collections::HashMap, io, sync::Arc};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::{ConnectionError, ConnectionId},
};

use crate::{
    events::{CloseReason, Connection, Event, Events, Follower, Kind, Kinds},
    memory::{Account, OverBudget},
    telemetry::Chain,
};

/// Bytes that are charged for a connection that is told of.
const PRESENT: usize = 512;

#[derive(Debug)]
struct Open {
    peer: PeerId,
    connection: Connection,
    /// It is being closed, since the peer does not answer.
    timed_out: bool,
}

/// The connections that there are, as events tell of them.
#[derive(Debug)]
pub(super) struct ConnectionEvents {
    events: Events,
    open: HashMap<ConnectionId, Open>,
    last: u64,
}

impl ConnectionEvents {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            open: HashMap::new(),
            last: 0,
        }
    }

    pub(super) fn tell(&self, kind: Kind, event: impl FnOnce() -> Event) {
        self.events.tell(kind, event);
    }

    /// There is a new connection, one of `connections` to the peer.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        remote: &Multiaddr,
        connections: usize,
    ) {
        self.last += 1;
        let connection = Connection {
            id: self.last,
            remote: remote.clone(),
            dialed: endpoint.is_dialer(),
            relayed: endpoint.is_relayed(),
        };
        self.events
            .tell(Kind::PeerConnected, || Event::PeerConnected {
                peer,
                connection: connection.clone(),
                connections,
            });
        let open = Open {
            peer,
            connection,
            timed_out: false,
        };
        self.open.insert(id, open);
    }

    /// The peer does not answer on this connection.
    pub(super) fn timed_out(&mut self, id: ConnectionId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.timed_out = true;
        }
    }

    /// A connection has ended, and `connections` to the peer are left.
    pub(super) fn closed(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        cause: Option<ConnectionError>,
        connections: usize,
    ) {
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        self.events.tell(Kind::PeerDisconnected, || {
            let cause = match cause {
                _ if open.timed_out => CloseReason::Timeout,
                // The swarm was asked to close it.
                None => CloseReason::Local,
                Some(ConnectionError::KeepAliveTimeout) => CloseReason::Local,
                Some(ConnectionError::IO(error)) => of_error(&error),
            };
            Event::PeerDisconnected {
                peer,
                connection: open.connection,
                connections,
                cause,
            }
        });
    }

    /// One who follows events of these kinds; with `present`, which is charged meanwhile, from the
    /// connections on that there are.
    pub(super) fn follow(
        &self,
        kinds: Kinds,
        present: Option<&Arc<Account>>,
    ) -> Result<Follower, OverBudget> {
        let mut follower = self.events.follow(kinds);
        let Some(account) = present.filter(|_| kinds.contains(Kind::PeerConnected)) else {
            return Ok(follower);
        };
        let charge = account.charge(PRESENT * self.open.len())?;
        let mut counts: HashMap<PeerId, usize> = HashMap::new();
        let mut open: Vec<&Open> = self.open.values().collect();
        open.sort_unstable_by_key(|open| open.connection.id);
        follower.begin_with(open.into_iter().map(|open| {
            let connections = counts.entry(open.peer).or_default();
            *connections += 1;
            Event::PeerConnected {
                peer: open.peer,
                connection: open.connection.clone(),
                connections: *connections,
            }
        }));
        follower.charged(charge);
        Ok(follower)
    }
}

/// Each box that a transport is put into wraps the error of what is inside.
fn innermost(error: &io::Error) -> &io::Error {
    let mut inner = error;
    while let Some(next) = inner.get_ref().and_then(|next| next.downcast_ref()) {
        inner = next;
    }
    inner
}

fn of_error(error: &io::Error) -> CloseReason {
    use io::ErrorKind;
    match innermost(error).kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => return CloseReason::Remote,
        ErrorKind::TimedOut => return CloseReason::Timeout,
        _ => {}
    }
    let reason = Chain(error).to_string();
    // The library's error of a quic connection tells its kind in words alone.
    if reason.contains("closed by peer") || reason.contains("reset by peer") {
        CloseReason::Remote
    } else if reason.contains("timed out") {
        CloseReason::Timeout
    } else {
        CloseReason::Broken(reason)
    }
}
