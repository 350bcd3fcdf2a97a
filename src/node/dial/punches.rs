//! Dials to a peer that dials this node at the same time, so that the NATs between them let both in.
//!
//! They are no part of the peer's ordinary dial: they are made although it is connected by a
//! circuit, all at once, and in a role of their own.

use std::{collections::HashMap, sync::Arc};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::race::Race;

/// How a peer is dialed that dials this node at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// From the port that is listened on, as the side that speaks first.
    Client,
    /// From the same port, as the side that answers.
    Server,
    /// From another port, as any dial: for peers that let in everybody.
    Plain,
}

impl Manner {
    /// Options for a dial to `address`.
    pub(in crate::node) fn options(self, peer: PeerId, address: &Multiaddr) -> DialOpts {
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![address.clone()]);
        let quic = address.iter().any(|part| matches!(part, Protocol::Udp(_)));
        match self {
            Self::Client => options,
            // With a new port, the library's quic opens the way from the port that is listened on
            // and waits there. Without, it dials.
            Self::Server if quic => options.override_role().allocate_new_port(),
            Self::Server => options.override_role(),
            Self::Plain => options.allocate_new_port(),
        }
        .build()
    }
}

/// A request for such dials.
#[derive(Debug)]
pub(in crate::node) struct Punch {
    pub(in crate::node) peer: PeerId,
    /// At most as many as may be dialed at once.
    pub(in crate::node) addresses: Vec<Multiaddr>,
    pub(in crate::node) manner: Manner,
    /// Over once nobody waits any more.
    pub(in crate::node) race: Race,
    /// Gets the remote address of the connection; dropped once all dials have failed.
    pub(in crate::node) reply: oneshot::Sender<Multiaddr>,
}

/// The dials of one request.
#[derive(Debug)]
pub(in crate::node) struct Attempt {
    race: Race,
    reply: Mutex<Option<oneshot::Sender<Multiaddr>>>,
}

/// Such dials that are under way.
#[derive(Debug, Default)]
pub(in crate::node) struct Punches(HashMap<ConnectionId, Arc<Attempt>>);

impl Attempt {
    pub(in crate::node) fn new(race: Race, reply: oneshot::Sender<Multiaddr>) -> Arc<Self> {
        Arc::new(Self {
            race,
            reply: Mutex::new(Some(reply)),
        })
    }
}

impl Punches {
    /// The swarm dials.
    pub(in crate::node) fn started(&mut self, id: ConnectionId, attempt: &Arc<Attempt>) {
        self.0.insert(id, attempt.clone());
    }

    /// There is a connection to `remote`. If a dial of a request has made it, the others end.
    pub(in crate::node) fn connected(&mut self, id: ConnectionId, remote: &Multiaddr) {
        if let Some(attempt) = self.0.remove(&id) {
            attempt.race.cancel();
            if let Some(reply) = attempt.reply.lock().take() {
                // Whoever has asked may have gone.
                let _ = reply.send(remote.clone());
            }
        }
    }

    /// A dial has failed. Whether it was one of these.
    pub(in crate::node) fn failed(&mut self, id: ConnectionId) -> bool {
        self.0.remove(&id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_connects_ends_the_others_and_the_last_that_fails_is_told() {
        let mut punches = Punches::default();
        let remote: Multiaddr = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
        let mut begin = |count: usize| {
            let (reply, answer) = oneshot::channel();
            let attempt = Attempt::new(Race::default(), reply);
            let ids: Vec<_> = (0..count)
                .map(|port| ConnectionId::new_unchecked(10 * count + port))
                .collect();
            for id in &ids {
                punches.started(*id, &attempt);
            }
            (ids, answer)
        };
        let (won, mut told) = begin(3);
        let (lost, mut failed) = begin(2);
        assert!(punches.failed(won[0]));
        punches.connected(won[1], &remote);
        assert_eq!(told.try_recv(), Ok(remote.clone()));
        assert!(punches.failed(won[2]) && !punches.failed(won[1]));
        assert!(punches.failed(lost[0]));
        assert_eq!(failed.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert!(punches.failed(lost[1]));
        assert_eq!(failed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        // Dials of others are none of these.
        punches.connected(ConnectionId::new_unchecked(7), &remote);
        assert!(punches.0.is_empty());
    }
}
