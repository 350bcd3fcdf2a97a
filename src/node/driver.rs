//! The task that owns the swarm: dials, closings, identify. Nothing else runs here.

mod closings;
mod connection_events;
mod dials;
mod handshakes;
mod identified;
mod openings;
mod steering;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::ConnectedPoint,
    ping,
    swarm::{ConnectionId, SwarmEvent},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::interval,
};
use tokio_util::sync::CancellationToken;

use super::{
    address_filter::{AddressFilter, Scope},
    behaviour::{Behaviour, BehaviourEvent},
    book::AddressBook,
    connmgr::ConnectionManager,
    dial::{DialError, Dials, NextRace, Origin, Punch, Punches, Reply},
    guarded::Guarded,
    host_addresses::{
        self, HostAddresses,
        observed::{self, Observed},
    },
    identify_request::Requests,
    listen::{Listeners, Rescan},
    peer_address::remote_address,
    reach::Reachability,
    rules::Rules,
};
use crate::{
    events::{Event, Events, Follower, Kind, Kinds},
    faults,
    identity::contained_key,
    memory::{Account, Ledger, OverBudget, prefix},
    metrics::metrics,
    streams::Streams,
    telemetry::canonical::{PeerStatus, peer_status},
};
use closings::Closings;
use connection_events::ConnectionEvents;
use identified::count_key;
use openings::Openings;
pub(super) use steering::Steer;

/// How long connections may take to close when the daemon ends.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Which connections are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// All.
    Any,
    /// Those that do not run through a relay.
    Direct,
}

/// A request to the swarm's owner. Each carries the place for its answer.
#[derive(Debug)]
pub(super) enum Command {
    Dial {
        peer: PeerId,
        /// To be dialed beside those that are known.
        addresses: Vec<Multiaddr>,
        /// On whose word `addresses` are dialed.
        origin: Origin,
        via: Via,
        reply: Reply,
        /// Completes when nobody waits for the answer any more.
        gone: oneshot::Receiver<Infallible>,
    },
    /// Dials a peer that dials at the same time.
    Punch(Punch),
    Disconnect {
        peer: PeerId,
        reply: oneshot::Sender<()>,
    },
    /// Changes what is listened on, or who may be connected with.
    Steer(Steer),
    /// Shows that the loop turns.
    Turn(oneshot::Sender<()>),
    /// Follows events from now on.
    Follow {
        kinds: Kinds,
        /// Begin with the connections that there are, which are charged here meanwhile.
        present: Option<Arc<Account>>,
        reply: oneshot::Sender<Result<Follower, OverBudget>>,
    },
}

pub(super) struct Driver {
    pub(super) swarm: Swarm<Guarded<Behaviour>>,
    pub(super) streams: Arc<Streams>,
    pub(super) book: Arc<AddressBook>,
    filter: Arc<AddressFilter>,
    connmgr: Arc<ConnectionManager>,
    addresses: HostAddresses,
    listeners: Listeners,
    openings: Openings,
    rules: Rules,
    reachability: Arc<Reachability>,
    observed: Observed,
    dials: Dials,
    punches: Punches,
    next_race: NextRace,
    closings: Closings,
    /// Established connections and the remote address of each.
    connections: HashMap<PeerId, HashMap<ConnectionId, Multiaddr>>,
    identities: Requests,
    /// Connections on which the peer's identify message has come: a further one is a push.
    identified: HashSet<ConnectionId>,
    events: ConnectionEvents,
}

/// What a [`Driver`] is made from.
pub(super) struct Parts {
    pub(super) swarm: Swarm<Guarded<Behaviour>>,
    pub(super) streams: Arc<Streams>,
    pub(super) book: Arc<AddressBook>,
    pub(super) filter: Arc<AddressFilter>,
    pub(super) connmgr: Arc<ConnectionManager>,
    pub(super) addresses: HostAddresses,
    pub(super) listeners: Listeners,
    pub(super) rules: Rules,
    pub(super) reachability: Arc<Reachability>,
    pub(super) next_race: NextRace,
    pub(super) max_dials: usize,
    pub(super) ledger: Arc<Ledger>,
    pub(super) events: Events,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            swarm: parts.swarm,
            streams: parts.streams,
            book: parts.book,
            filter: parts.filter,
            connmgr: parts.connmgr,
            addresses: parts.addresses,
            listeners: parts.listeners,
            openings: Openings::default(),
            rules: parts.rules,
            reachability: parts.reachability,
            observed: Observed::default(),
            dials: Dials::new(parts.max_dials, parts.ledger),
            punches: Punches::default(),
            next_race: parts.next_race,
            closings: Closings::default(),
            connections: HashMap::new(),
            identities: Requests::default(),
            identified: HashSet::new(),
            events: ConnectionEvents::new(parts.events),
        }
    }

    /// Begins with `early` events. Runs until `stop`, then closes every connection.
    pub(super) async fn run(
        mut self,
        early: Vec<SwarmEvent<BehaviourEvent>>,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        for event in early {
            self.on_event(event);
        }
        let mut rescan = Rescan::new();
        let mut fading = interval(observed::REFRESH);
        let mut told = self.addresses.subscribe();
        told.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                host = rescan.next(), if self.listeners.are_unwatched() => {
                    self.listeners.open_new(&mut self.swarm, &host);
                }
                _ = fading.tick() => {
                    self.observed.refresh(Instant::now());
                    self.addresses.set_observed(self.observed.count());
                }
                Ok(()) = told.changed() => {
                    let told = told.borrow_and_update().clone();
                    host_addresses::tell(&told, &mut self.swarm);
                    self.events.tell(Kind::Addresses, || Event::Addresses(told));
                }
                // Commands are few and short; events may come without end.
                Some(command) = commands.recv() => {
                    faults::hang("swarm").await;
                    self.on_command(command);
                }
                requested = self.identities.next() => self.on_requested_identity(requested),
                due = self.dials.next() => self.on_due(due),
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
            Command::Turn(reply) => {
                let _ = reply.send(());
            }
            Command::Follow {
                kinds,
                present,
                reply,
            } => {
                let _ = reply.send(self.events.follow(kinds, present.as_ref()));
            }
            Command::Dial {
                peer,
                addresses,
                origin,
                via,
                reply,
                gone,
            } => {
                let candidates = self.candidates(&peer, addresses, origin, via);
                self.on_dial(peer, candidates, via, reply, gone);
            }
            Command::Punch(punch) => self.on_punch(punch),
            Command::Steer(steer) => self.on_steer(steer),
            Command::Disconnect { peer, reply } => {
                let connections: HashSet<_> = self
                    .connections
                    .get(&peer)
                    .map(|connections| connections.keys().copied().collect())
                    .unwrap_or_default();
                self.dials.abandon(&peer, &DialError::ConnectionFailed);
                let known = self.swarm.disconnect_peer_id(peer).is_ok();
                if known && !connections.is_empty() {
                    self.closings.add(connections, reply);
                } else {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        if self.listeners.on_event(&event) {
            self.addresses.set_listened(self.listeners.told());
            let failed = self.openings.on_event(&event);
            self.close_listeners(&failed);
        }
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                let remote = remote_address(&endpoint, peer_id);
                if !endpoint.is_relayed() {
                    let outbound = endpoint.is_dialer();
                    let status = PeerStatus::Established { outbound };
                    peer_status(Some(peer_id), &remote, status);
                }
                if let Some(key) = contained_key(&peer_id) {
                    count_key(&key, endpoint.is_dialer());
                }
                let dialed = endpoint.is_dialer().then(|| remote.clone());
                self.on_endpoint(connection_id, &endpoint);
                let count = num_established.get() as usize;
                self.events
                    .connected(peer_id, connection_id, &endpoint, &remote, count);
                self.book.connected(peer_id, dialed, prefix(&remote));
                self.punches.connected(connection_id, &remote);
                self.connections
                    .entry(peer_id)
                    .or_default()
                    .insert(connection_id, remote);
                self.dials.connected(&peer_id, connection_id);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                let left = num_established as usize;
                self.events.closed(peer_id, connection_id, cause, left);
                if num_established == 0 {
                    self.connections.remove(&peer_id);
                    self.book.disconnected(&peer_id);
                    self.connmgr.disconnected(&peer_id);
                } else if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.remove(&connection_id);
                }
                self.observed.closed(connection_id);
                self.identified.remove(&connection_id);
                self.streams.peers.settled();
                self.closings.closed(connection_id);
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                connection_id,
                error,
            } => {
                self.on_dial_failed(peer, connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => handshakes::failed(&send_back_addr, &error),
            SwarmEvent::ListenerClosed {
                addresses,
                reason: Ok(()),
                ..
            } => tracing::debug!(?addresses, "no longer listened on"),
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::error!(?addresses, ?reason, "listener closed");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "listener failed to accept");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => match event.result {
                Ok(time) => self.streams.peers.set_round_trip(&event.peer, time),
                Err(ping::Failure::Timeout) => {
                    tracing::debug!(peer = %event.peer, "no answer to ping: closing");
                    self.events.timed_out(event.connection);
                    self.swarm.close_connection(event.connection);
                }
                Err(_) => {}
            },
            _ => {}
        }
        let counters = self.swarm.network_info();
        let counters = counters.connection_counters();
        let (inbound, outbound) = (
            counters.num_pending_incoming(),
            counters.num_pending_outgoing(),
        );
        metrics().swarm.set_pending(inbound, outbound);
    }

    /// Takes note of how a new connection bears on what is known of this host's addresses.
    fn on_endpoint(&mut self, id: ConnectionId, endpoint: &ConnectedPoint) {
        let remote = endpoint.get_remote_address();
        if endpoint.is_listener()
            && Scope::of_teller(remote) == Scope::Public
            && !endpoint.is_relayed()
        {
            self.reachability.inbound();
        }
        self.observed
            .connected(id, endpoint, &self.addresses.listened());
    }
}
