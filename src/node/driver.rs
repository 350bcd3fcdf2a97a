//! The task that owns the swarm: dials, closings, identify. Nothing else runs here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, autonat, identify, ping,
    swarm::{
        ConnectionId, NetworkBehaviour, StreamUpgradeError, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    address_filter::AddressFilter,
    book::{AddressBook, Fate},
    connmgr::ConnectionManager,
    dial::{Cause, DialError},
    guarded::Guarded,
    identify_request::{Identity, Requested, Requests},
    limits::Limiter,
    listen::HostAddresses,
    transport::{remote_address, strip_peer},
};
use crate::{
    faults,
    identity::contained_key,
    limit_hits::Limit,
    streams::{Announce, Streams},
};

/// How long connections may take to close when the daemon ends.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Everything that takes part in connections. Denials come first, so that no other
/// behaviour has counted a connection that is denied.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: Limiter,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) announce: Announce,
    pub(super) autonat: Toggle<autonat::v1::Behaviour>,
}

/// A request to the swarm's owner. Each carries the place for its answer.
#[derive(Debug)]
pub(super) enum Command {
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), DialError>>,
    },
    Disconnect {
        peer: PeerId,
        reply: oneshot::Sender<()>,
    },
}

struct Waiter {
    addresses: Vec<Multiaddr>,
    reply: oneshot::Sender<Result<(), DialError>>,
}

struct Dialing {
    id: ConnectionId,
    addresses: Vec<Multiaddr>,
    waiters: Vec<Waiter>,
    own_port: bool,
}

struct Closing {
    connections: HashSet<ConnectionId>,
    reply: oneshot::Sender<()>,
}

pub(super) struct Driver {
    pub(super) swarm: Swarm<Guarded<Behaviour>>,
    pub(super) streams: Arc<Streams>,
    pub(super) book: Arc<AddressBook>,
    filter: Arc<AddressFilter>,
    connmgr: Arc<ConnectionManager>,
    pub(super) addresses: HostAddresses,
    /// Whether strangers can dial this node.
    public: watch::Sender<bool>,
    dials: HashMap<PeerId, Dialing>,
    closings: Vec<Closing>,
    /// Established connections and the remote address of each.
    connections: HashMap<PeerId, HashMap<ConnectionId, Multiaddr>>,
    identities: Requests,
}

impl Driver {
    pub(super) fn new(
        swarm: Swarm<Guarded<Behaviour>>,
        streams: Arc<Streams>,
        book: Arc<AddressBook>,
        filter: Arc<AddressFilter>,
        connmgr: Arc<ConnectionManager>,
        addresses: HostAddresses,
        public: watch::Sender<bool>,
    ) -> Self {
        Self {
            swarm,
            streams,
            book,
            filter,
            connmgr,
            addresses,
            public,
            dials: HashMap::new(),
            closings: Vec::new(),
            connections: HashMap::new(),
            identities: Requests::default(),
        }
    }

    /// Runs until `stop`, then closes every connection.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Commands are few and short; events may come without end.
                Some(command) = commands.recv() => self.on_command(command),
                requested = self.identities.next() => self.on_requested_identity(requested),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        for peer in self.connections.keys().copied().collect::<Vec<_>>() {
            // The peer may have left in this very moment.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while !self.connections.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.on_event(event);
            }
        };
        if tokio::time::timeout(CLOSE_GRACE, closing).await.is_err() {
            tracing::debug!("connections left open at exit");
        }
    }

    fn on_command(&mut self, command: Command) {
        faults::point("swarm");
        match command {
            Command::Dial {
                peer,
                addresses,
                reply,
            } => self.on_dial(peer, addresses, reply),
            Command::Disconnect { peer, reply } => {
                let connections: HashSet<_> = self
                    .connections
                    .get(&peer)
                    .map(|connections| connections.keys().copied().collect())
                    .unwrap_or_default();
                // Also ends dials to the peer, whose waiters hear of it.
                let known = self.swarm.disconnect_peer_id(peer).is_ok();
                if known && !connections.is_empty() {
                    self.closings.push(Closing { connections, reply });
                } else {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn on_dial(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), DialError>>,
    ) {
        if self.connections.contains_key(&peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        for address in self.book.get(&peer) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            let _ = reply.send(Err(DialError::NoAddresses(peer)));
            return;
        }
        let waiter = Waiter { addresses, reply };
        match self.dials.get_mut(&peer) {
            Some(dialing) => dialing.waiters.push(waiter),
            None => self.dial(peer, vec![waiter], false),
        }
    }

    /// Dials from a port that is listened on, where there is one, unless `own_port`.
    fn dial(&mut self, peer: PeerId, waiters: Vec<Waiter>, own_port: bool) {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for waiter in &waiters {
            for address in &waiter.addresses {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
        let mut options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses.clone());
        if own_port {
            options = options.allocate_new_port();
        }
        let options = options.build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(
                    peer,
                    Dialing {
                        id,
                        addresses,
                        waiters,
                        own_port,
                    },
                );
            }
            Err(error) => answer(waiters, &Err(DialError::from_swarm(&error, peer))),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let remote = remote_address(&endpoint, peer_id);
                let dialed = endpoint.is_dialer().then(|| remote.clone());
                self.book.connected(peer_id, dialed);
                self.connections
                    .entry(peer_id)
                    .or_default()
                    .insert(connection_id, remote);
                if let Some(dialing) = self.dials.remove(&peer_id) {
                    answer(dialing.waiters, &Ok(()));
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                if num_established == 0 {
                    self.connections.remove(&peer_id);
                    self.book.disconnected(&peer_id);
                    self.connmgr.disconnected(&peer_id);
                } else if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.remove(&connection_id);
                }
                self.streams.peers.settled();
                self.on_closed(connection_id);
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                connection_id,
                error,
            } => {
                tracing::debug!(%peer, %error, "dial failed");
                let error = DialError::from_swarm(&error, peer);
                if self
                    .dials
                    .get(&peer)
                    .is_some_and(|dialing| dialing.id == connection_id)
                    && let Some(dialing) = self.dials.remove(&peer)
                {
                    self.on_dial_failed(peer, dialing, &error);
                }
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.addresses.update(self.swarm.listeners());
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::error!(?addresses, ?reason, "listener closed");
                self.addresses.update(self.swarm.listeners());
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "listener failed to accept");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Autonat(autonat::v1::Event::StatusChanged {
                new,
                ..
            })) => {
                tracing::info!(?new, "reachability");
                let public = matches!(new, autonat::v1::NatStatus::Public(_));
                self.public.send_replace(public);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => {
                if let Err(ping::Failure::Timeout) = event.result {
                    tracing::debug!(peer = %event.peer, "no answer to ping: closing");
                    self.swarm.close_connection(event.connection);
                }
            }
            _ => {}
        }
    }

    /// An address that leads to another peer is forgotten, and so is one that leads nowhere.
    fn note_failures(&self, error: &DialError) {
        let DialError::AllFailed(peer, failures) = error else {
            return;
        };
        for (address, cause) in failures {
            match cause {
                Cause::PeerIdMismatch(_) => {
                    if self.book.wrong(peer, address) == Fate::Forgotten {
                        Limit::WrongPeer.hit();
                    }
                }
                _ => {
                    if self.book.failed(peer, address) == Fate::Forgotten {
                        Limit::DeadAddress.hit();
                    }
                }
            }
        }
    }

    /// Callers that came later with addresses of their own get a dial of their own.
    fn on_dial_failed(&mut self, peer: PeerId, dialing: Dialing, error: &DialError) {
        if !dialing.own_port && error.is_upgrade() {
            // Two dials that cross between listening ports become one tcp connection on
            // which both sides act as its dialer. From a port of its own, a dial cannot.
            self.dial(peer, dialing.waiters, true);
            return;
        }
        self.note_failures(error);
        let (failed, untried): (Vec<_>, Vec<_>) = dialing.waiters.into_iter().partition(|waiter| {
            waiter
                .addresses
                .iter()
                .all(|address| dialing.addresses.contains(address))
        });
        answer(failed, &Err(error.clone()));
        let untried: Vec<_> = untried
            .into_iter()
            .filter(|waiter| !waiter.reply.is_closed())
            .collect();
        if !untried.is_empty() {
            self.dial(peer, untried, false);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        let mut index = 0;
        while index < self.closings.len() {
            let closing = &mut self.closings[index];
            closing.connections.remove(&connection);
            if closing.connections.is_empty() {
                let closing = self.closings.swap_remove(index);
                let _ = closing.reply.send(());
            } else {
                index += 1;
            }
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received {
                peer_id,
                connection_id,
                info,
            } => {
                let names = info.protocols.iter();
                let identity = Identity {
                    public_key: Some(info.public_key),
                    addresses: info.listen_addrs,
                    protocols: names.map(|name| name.as_ref().to_owned()).collect(),
                };
                self.identified(peer_id, connection_id, identity);
            }
            identify::Event::Error {
                peer_id,
                connection_id,
                error: StreamUpgradeError::Apply(error),
            } => {
                tracing::debug!(peer = %peer_id, %error, "identify message refused by the library");
                let streams = self.streams.clone();
                self.identities.begin(streams, peer_id, connection_id);
            }
            identify::Event::Error { peer_id, error, .. } => {
                tracing::debug!(peer = %peer_id, %error, "identify failed");
                self.streams.peers.set_identified(&peer_id, None);
            }
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
        }
    }

    fn on_requested_identity(&mut self, (peer, connection, identity): Requested) {
        match identity {
            Ok(identity) => self.identified(peer, connection, identity),
            Err(error) => {
                let reason = format!("{:#}", anyhow::Error::from(error));
                tracing::debug!(%peer, reason, "identify failed");
                self.streams.peers.set_unreadable(&peer, &reason);
            }
        }
    }

    /// Takes note of what `peer` says of itself on `connection`.
    fn identified(&mut self, peer: PeerId, connection: ConnectionId, identity: Identity) {
        let connections = self.connections.get(&peer);
        let remote = connections.and_then(|connections| connections.get(&connection));
        // Its last words may come after the connection is closed.
        if let Some(remote) = remote {
            self.filter.identified(remote);
            let addresses = identity
                .addresses
                .into_iter()
                .map(|address| strip_peer(address, peer))
                .filter(|address| self.filter.admits(remote, address))
                .collect();
            self.book.set_connected(peer, addresses);
        }
        if let Some(key) = identity.public_key
            && contained_key(&peer).is_none()
        {
            self.book.set_key(&peer, key);
        }
        let protocols = Some(identity.protocols);
        if let Some(known) = self.streams.peers.set_identified(&peer, protocols) {
            self.book.set_protocols(&peer, known);
        }
    }
}

fn answer(waiters: Vec<Waiter>, result: &Result<(), DialError>) {
    for waiter in waiters {
        // A caller that has gone needs no answer.
        let _ = waiter.reply.send(result.clone());
    }
}
