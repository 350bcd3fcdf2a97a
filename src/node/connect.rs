//! Connections to peers, as callers of the node get them.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Node, book,
    dial::{DialError, Origin},
    driver::{Command, Via},
    peer_address,
};
use crate::{muxer::Connection, streams::Peer};

/// Between a connection's being established and its task's first turn.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

impl Node {
    /// Connects to `peer`, trying `addresses` and those known of it, or else those that the
    /// DHT finds, and waits for identify.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let addresses = self.remember_given(peer, addresses);
        let connected = self.find_and_reach(peer, addresses, deadline).await?;
        identified(&connected, deadline).await
    }

    /// As [`Node::connect`], without asking the DHT.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect_known(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let addresses = self.remember_given(peer, addresses);
        let connected = self.reach(peer, addresses, Origin::Given, deadline).await?;
        identified(&connected, deadline).await
    }

    /// Remembers addresses that a client or the operator names; those that are the peer's own.
    fn remember_given(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let addresses: Vec<_> = addresses
            .into_iter()
            .filter_map(|address| own_address(address, peer))
            .collect();
        let given = addresses.iter().cloned();
        self.0.book.add(peer, given, book::TEMPORARY, Origin::Given);
        addresses
    }

    /// As [`Node::connect_known`], at addresses that other peers told.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect_directly(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let connected = self
            .reach(peer, addresses, Origin::Hearsay, deadline)
            .await?;
        identified(&connected, deadline).await
    }

    /// As [`Node::reach`]; asks the DHT if no address is known, and once more if all that are
    /// known fail, as Go does.
    pub(super) async fn find_and_reach(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<Arc<Peer>, DialError> {
        let failed = match self.reach(peer, addresses, Origin::Given, deadline).await {
            Err(error @ (DialError::NoAddresses(_) | DialError::AllFailed(..))) => error,
            done => return done,
        };
        let Some(routing) = self.0.routing.get() else {
            return Err(failed);
        };
        let found = match (routing.find(peer, deadline).await, &failed) {
            (Ok(found), _) => found,
            (Err(error), DialError::NoAddresses(_)) => return Err(DialError::Routing(error)),
            (Err(_), _) => return Err(failed),
        };
        if let DialError::AllFailed(_, causes) = &failed
            && found
                .iter()
                .all(|address| causes.iter().any(|(tried, _)| tried == address))
            && !self.is_connected(&peer)
        {
            return Err(failed);
        }
        self.reach(peer, found, Origin::Hearsay, deadline).await
    }

    /// The connected peer, after dialing it if need be.
    pub(super) async fn reach(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
        deadline: Instant,
    ) -> Result<Arc<Peer>, DialError> {
        let reached = self.reach_via(Via::Any, peer, addresses, origin, deadline);
        reached.await.map(|(connected, _)| connected)
    }

    /// The connected peer and the best of its connections, which does not run through a relay.
    pub(super) async fn reach_directly(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
        deadline: Instant,
    ) -> Result<(Arc<Peer>, Arc<Connection>), DialError> {
        self.reach_via(Via::Direct, peer, addresses, origin, deadline)
            .await
    }

    async fn reach_via(
        &self,
        via: Via,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
        deadline: Instant,
    ) -> Result<(Arc<Peer>, Arc<Connection>), DialError> {
        if peer == self.0.peer_id {
            return Err(DialError::ToSelf);
        }
        let peers = &self.0.streams.peers;
        let connected = || {
            let connected = peers.get(&peer)?;
            let connection = match via {
                Via::Any => connected.best_connection(),
                Via::Direct => connected.direct_connection(),
            };
            connection.map(|connection| (connected, connection))
        };
        if let Some(connected) = connected() {
            return Ok(connected);
        }
        let dial = async {
            loop {
                let changed = peers.changed();
                tokio::pin!(changed);
                changed.as_mut().enable();
                self.dial(via, peer, addresses.clone(), origin).await?;
                if let Some(connected) = connected() {
                    return Ok(connected);
                }
                // The connection's task has not had its first turn yet, or it has had its
                // last and the swarm does not know: then it is dialed again.
                tokio::time::timeout(CONNECTION_TIMEOUT, changed)
                    .await
                    .map_err(|_| DialError::ConnectionFailed)?;
            }
        };
        timeout_at(deadline, dial)
            .await
            .map_err(|_| DialError::DeadlineExceeded)?
    }

    /// Asks the driver for a connection. The dial ends when the last of those who wait for it
    /// has dropped this future.
    async fn dial(
        &self,
        via: Via,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        origin: Origin,
    ) -> Result<(), DialError> {
        let (reply, answer) = oneshot::channel();
        let (_waiting, gone) = oneshot::channel();
        let command = Command::Dial {
            peer,
            addresses,
            origin,
            via,
            reply,
            gone,
        };
        let sent = self.0.commands.send(command).await;
        sent.map_err(|_| DialError::ConnectionFailed)?;
        answer.await.map_err(|_| DialError::ConnectionFailed)?
    }

    /// Closes every connection to `peer` and waits until they are closed.
    pub async fn disconnect(&self, peer: PeerId) {
        let (reply, answer) = oneshot::channel();
        if self
            .0
            .commands
            .send(Command::Disconnect { peer, reply })
            .await
            .is_ok()
        {
            // An error means the node is stopping, which closes everything.
            let _ = answer.await;
        }
    }
}

async fn identified(peer: &Peer, deadline: Instant) -> Result<(), DialError> {
    timeout_at(deadline, peer.identified())
        .await
        .map_err(|_| DialError::DeadlineExceeded)?;
    if let Some(reason) = peer.unreadable() {
        return Err(DialError::Unidentified(reason));
    }
    // It may have left instead.
    peer.best_connection()
        .map(drop)
        .ok_or(DialError::ConnectionFailed)
}

/// `address` without `/p2p/<peer>`, or nothing if it names another peer (COMPATIBILITY.md 4.5).
fn own_address(address: Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    let address = peer_address::strip_peer(address, peer);
    match address.iter().last() {
        Some(libp2p::multiaddr::Protocol::P2p(_)) | None => None,
        Some(_) => Some(address),
    }
}
