//! What clients change while the daemon runs: listeners, and who may be connected with.

use std::{collections::HashSet, net::IpAddr};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId};
use tokio::sync::oneshot;

use super::{
    super::listen::{self, ListenError, ListenerInfo, ListenersError, Plan},
    DialError, Driver,
};

/// A change.
#[derive(Debug)]
pub(in super::super) enum Steer {
    /// Tells what is listened on.
    Listeners(oneshot::Sender<Vec<ListenerInfo>>),
    /// Listens on what is planned.
    Listen {
        plan: Plan,
        /// The addresses that the host has now.
        host: Vec<IpAddr>,
        /// What is told if a listener fails.
        address: Multiaddr,
        begun: oneshot::Sender<Result<(), ListenersError>>,
        /// Told once all listeners have addresses.
        done: oneshot::Sender<Result<(), ListenError>>,
    },
    /// No longer listens on these.
    Unlisten {
        addresses: Vec<Multiaddr>,
        /// What was bound.
        reply: oneshot::Sender<Result<Vec<Multiaddr>, ListenersError>>,
    },
    /// The rules have changed: connections that they forbid are closed.
    Rules(oneshot::Sender<()>),
}

impl Driver {
    pub(super) fn on_steer(&mut self, steer: Steer) {
        // Callers may have gone.
        match steer {
            Steer::Listeners(reply) => drop(reply.send(self.listeners.list())),
            Steer::Listen {
                plan,
                host,
                address,
                begun,
                done,
            } => {
                let opened = self.listen(plan, &host);
                let _ = begun.send(opened.map(|opened| self.openings.add(opened, address, done)));
            }
            Steer::Unlisten { addresses, reply } => {
                let removed = self.listeners.remove(&mut self.swarm, &addresses);
                self.addresses.set_listened(self.listeners.told());
                let _ = reply.send(removed);
            }
            Steer::Rules(reply) => self.apply_rules(reply),
        }
    }

    fn listen(&mut self, plan: Plan, host: &[IpAddr]) -> Result<Vec<ListenerId>, ListenersError> {
        if !self.listeners.has_room(plan.len()) {
            return Err(ListenersError::TooMany);
        }
        let opened = listen::add(&mut self.swarm, plan, host, &mut self.listeners);
        self.addresses.set_listened(self.listeners.told());
        Ok(opened?)
    }

    pub(super) fn close_listeners(&mut self, ids: &[ListenerId]) {
        if !ids.is_empty() {
            self.listeners.close(&mut self.swarm, ids);
            self.addresses.set_listened(self.listeners.told());
        }
    }

    /// Closes connections that the rules forbid, and tells once they are closed.
    fn apply_rules(&mut self, reply: oneshot::Sender<()>) {
        let mut forbidden = HashSet::new();
        let mut peers: Vec<PeerId> = Vec::new();
        for (peer, connections) in &self.connections {
            let peer_allowed = self.rules.allow_peer(peer);
            if !peer_allowed {
                peers.push(*peer);
            }
            let of_it = connections.iter();
            let of_it = of_it.filter(|(_, at)| !peer_allowed || !self.rules.allow_address(at));
            forbidden.extend(of_it.map(|(id, _)| *id));
        }
        for peer in peers {
            self.dials.abandon(&peer, &DialError::ConnectionFailed);
        }
        let closing = forbidden
            .iter()
            .filter(|id| self.swarm.close_connection(**id));
        let closing: HashSet<_> = closing.copied().collect();
        if closing.is_empty() {
            let _ = reply.send(());
        } else {
            self.closings.add(closing, reply);
        }
    }
}
