//! The library's gossipsub inside the swarm, with what it lacks around it.
//!
//! Everything here runs in the swarm's task: nothing waits, and a long turn is cut.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, io::Cursor};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade as _, UpgradeInfo as _},
    },
    gossipsub::{
        self, Behaviour, CallbackSubscriptionFilter, DataTransform, Event, IdentTopic,
        MaxCountSubscriptionFilter, MessageAcceptance, MessageId, PublishError, RawMessage,
        TopicHash,
    },
    swarm::{
        ConnectionDenied, ConnectionHandler as _, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, ToSwarm,
    },
};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::{
    Counters, Message,
    handler::{FromHandler, FromLibrary, Handler, Protocols, ToHandler},
    message::{Author, open, pb, seal},
    recent::{Copy, Recent},
    topics::Topics,
};

/// Commands and events handled before the rest of the swarm gets a turn.
const BURST: usize = 64;

/// Bytes of messages that the library holds for peers that missed them.
const MAX_CACHED: usize = 8 << 20;

/// What one of them costs beside its payload.
const CACHE_ENTRY: usize = 512;

/// Announcements under way; those who wait for a further one do not wait.
const MAX_BARRIERS: usize = 64;

/// Peers' subscriptions: how many, and of which names.
pub(super) type Filter = MaxCountSubscriptionFilter<CallbackSubscriptionFilter<NameFilter>>;

/// Whether a name may be subscribed to.
pub(super) type NameFilter = fn(&TopicHash) -> bool;

/// Passes signature and key of messages through the library, and refuses what it need not see.
#[derive(Debug)]
pub struct Envelope {
    pub(super) own: PeerId,
    pub(super) topics: Arc<Topics>,
    /// Signed messages are not wanted.
    pub(super) refuse_signed: bool,
}

impl DataTransform for Envelope {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<gossipsub::Message> {
        if self.refuse_signed && raw.signature.is_some() {
            return Err(io::Error::other("unexpected signature"));
        }
        let own = raw.source == Some(self.own);
        if !own && !self.topics.has_subscribers(raw.topic.as_str()) {
            // The library would keep it for nobody.
            return Err(io::Error::other("no subscription to this topic"));
        }
        Ok(gossipsub::Message {
            source: raw.source,
            sequence_number: raw.sequence_number,
            topic: raw.topic.clone(),
            data: seal(raw),
        })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// What became of a message to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// With its sequence number. There may be nobody to get it.
    Sent(u64),
    /// Not to peers: every one that should get it has too much to read already.
    Congested(u64),
    /// The library refuses.
    Refused,
}

/// A request to the library's owner. Each carries the place for its answer.
#[derive(Debug)]
pub(super) enum Command {
    Publish {
        topic: String,
        data: Bytes,
        reply: oneshot::Sender<Published>,
    },
    /// Peers that have announced a topic.
    Peers {
        topic: String,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
}

/// Topics of which the connections not yet crossed off have not heard.
#[derive(Debug)]
struct Barrier {
    mark: u64,
    topics: Vec<String>,
    connections: HashSet<ConnectionId>,
}

/// What the library keeps for peers that ask, oldest first.
#[derive(Debug, Default)]
struct Cache {
    messages: VecDeque<(Instant, MessageId, usize)>,
    bytes: usize,
}

/// What [`Gossip`] is made of.
pub(super) struct Parts {
    pub(super) library: Behaviour<Envelope, Filter>,
    pub(super) author: Arc<Author>,
    pub(super) topics: Arc<Topics>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) last_seqno: Arc<AtomicU64>,
    pub(super) history: Duration,
    pub(super) counters: Arc<Counters>,
}

/// Pubsub's part of the swarm.
pub struct Gossip {
    parts: Parts,
    /// How to read an RPC, from the first connection on.
    protocols: Option<Protocols>,
    connections: HashMap<PeerId, HashSet<ConnectionId>>,
    recent: Recent,
    cache: Cache,
    barriers: Vec<Barrier>,
    marks: VecDeque<(PeerId, ConnectionId, u64)>,
    next_mark: u64,
}

impl fmt::Debug for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gossip")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Gossip {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            protocols: None,
            connections: HashMap::new(),
            recent: Recent::default(),
            cache: Cache::default(),
            barriers: Vec::new(),
            marks: VecDeque::new(),
            next_mark: 0,
        }
    }

    fn library(&mut self) -> &mut Behaviour<Envelope, Filter> {
        &mut self.parts.library
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, data, reply } => {
                // A caller that has gone has published all the same.
                let _ = reply.send(self.publish(&topic, &data));
            }
            Command::Peers { topic, reply } => {
                let topic = TopicHash::from_raw(topic);
                let peers = self
                    .library()
                    .all_peers()
                    .filter(|(_, topics)| topics.contains(&&topic))
                    .map(|(peer, _)| *peer)
                    .collect();
                let _ = reply.send(peers);
            }
        }
    }

    fn publish(&mut self, topic: &str, data: &Bytes) -> Published {
        let hash = TopicHash::from_raw(topic);
        let published = self.library().publish(hash.clone(), data.to_vec());
        // The library gave the message this number also when it then failed.
        let seqno = self.parts.last_seqno.load(Ordering::Relaxed);
        let own = [Some(self.parts.author.peer), None];
        match published {
            Ok(id) => {
                self.cached(id.clone(), data.len());
                self.recent.add(hash, own, Copy::Sent(id));
            }
            Err(PublishError::NoPeersSubscribedToTopic) => {
                // A slice would keep all that the client sent with it.
                let data = Bytes::copy_from_slice(data);
                self.recent.add(hash, own, Copy::Unsent { seqno, data });
            }
            Err(PublishError::AllQueuesFull(_)) => {
                // It will be published anew: nobody shall ask for this one.
                let id = message_id(Some(&self.parts.author.peer), Some(seqno));
                self.forget(&id);
                return Published::Congested(seqno);
            }
            Err(error) => {
                tracing::debug!(%error, "the library does not publish");
                return Published::Refused;
            }
        }
        Published::Sent(seqno)
    }

    /// The library has put a message of `len` bytes into its cache, which has no bound of its
    /// own but time.
    fn cached(&mut self, id: MessageId, len: usize) {
        let now = Instant::now();
        let size = len + CACHE_ENTRY;
        self.cache.bytes += size;
        self.cache.messages.push_back((now, id, size));
        while let Some((at, id, size)) = self.cache.messages.front() {
            let expired = at.elapsed() > self.parts.history;
            if !expired && self.cache.bytes <= MAX_CACHED {
                break;
            }
            let (id, size) = (id.clone(), *size);
            self.cache.messages.pop_front();
            self.cache.bytes -= size;
            if !expired {
                self.forget(&id);
            }
        }
    }

    /// Takes a message out of the library's cache.
    fn forget(&mut self, id: &MessageId) {
        let own = self.parts.author.peer;
        self.library()
            .report_message_validation_result(id, &own, MessageAcceptance::Ignore);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                if propagation_source == self.parts.author.peer {
                    // Its subscribers had it when it was published.
                    return;
                }
                let gossipsub::Message {
                    source,
                    data,
                    sequence_number: seqno,
                    topic,
                } = message;
                let Some((data, signature, key)) = open(data) else {
                    return;
                };
                self.cached(message_id.clone(), data.len());
                let has = [source, Some(propagation_source)];
                self.recent.add(topic.clone(), has, Copy::Sent(message_id));
                self.parts.topics.deliver(Message {
                    from: source.map(|peer| peer.to_bytes().into()),
                    data,
                    seqno,
                    topic: topic.into_string(),
                    signature,
                    key,
                });
            }
            Event::Subscribed { peer_id, topic } => self.catch_up(peer_id, &topic),
            Event::SlowPeer {
                peer_id,
                failed_messages,
            } => {
                let lost = failed_messages.priority + failed_messages.non_priority;
                let unsent = &self.parts.counters.unsent;
                unsent.fetch_add(lost as u64, Ordering::Relaxed);
                tracing::debug!(peer = %peer_id, lost, "a slow peer loses messages");
            }
            Event::Unsubscribed { .. } | Event::GossipsubNotSupported { .. } => {}
        }
    }

    /// Sends `peer`, which has just announced `topic`, what it missed by a moment: the library
    /// sends messages to a single peer when that peer asks.
    fn catch_up(&mut self, peer: PeerId, topic: &TopicHash) {
        let mut ids = Vec::new();
        for copy in self.recent.for_subscriber(topic, &peer) {
            match copy {
                Copy::Sent(id) => ids.push(id),
                Copy::Unsent { seqno, data } => {
                    let author = self.parts.author.clone();
                    let len = data.len();
                    let Ok(message) = author.message(topic.as_str().to_owned(), data, seqno) else {
                        continue;
                    };
                    let id = message_id(Some(&author.peer), Some(seqno));
                    // From nobody but ourselves does the library take our own messages.
                    self.receive(author.peer, &message.rpc());
                    self.cached(id.clone(), len);
                    self.recent.sent(topic, seqno, &id);
                    ids.push(id);
                }
            }
        }
        if !ids.is_empty() {
            tracing::debug!(%peer, %topic, messages = ids.len(), "sent to a new subscriber");
            let message_ids = ids.into_iter().map(|id| id.0.into()).collect();
            let iwant = pb::IWant {
                message_i_ds: message_ids,
            };
            let control = pb::Control { iwant: vec![iwant] };
            let rpc = pb::Rpc {
                publish: Vec::new(),
                control: Some(control),
            };
            self.receive(peer, &rpc);
        }
    }

    /// Lets the library believe that `peer` sent `rpc`.
    fn receive(&mut self, peer: PeerId, rpc: &pb::Rpc) {
        let decoded = self
            .protocols
            .as_ref()
            .and_then(|protocols| decode(protocols, rpc));
        if let Some(event) = decoded {
            // The library does not look at the connection.
            let connection = ConnectionId::new_unchecked(0);
            self.library()
                .on_connection_handler_event(peer, connection, event);
        }
    }

    /// Announces `changes` to peers.
    fn announce(&mut self, changes: Vec<super::topics::Change>) {
        let mut topics = Vec::new();
        for change in changes {
            let topic = IdentTopic::new(change.topic.clone());
            if !change.subscribed {
                self.library().unsubscribe(&topic);
            } else if let Err(error) = self.library().subscribe(&topic) {
                tracing::error!(%error, "the library does not subscribe");
            } else {
                topics.push(change.topic);
            }
        }
        if topics.is_empty() {
            return;
        }
        let connections: HashSet<_> = self.connections.values().flatten().copied().collect();
        if connections.is_empty() || self.barriers.len() >= MAX_BARRIERS {
            self.parts.topics.announced(&topics);
            return;
        }
        self.next_mark += 1;
        let mark = self.next_mark;
        for (peer, connections) in &self.connections {
            for connection in connections {
                self.marks.push_back((*peer, *connection, mark));
            }
        }
        self.barriers.push(Barrier {
            mark,
            topics,
            connections,
        });
    }

    /// `connection` has written all that was queued before `mark`, or is gone.
    fn written(&mut self, connection: ConnectionId, mark: u64) {
        let topics = &self.parts.topics;
        self.barriers.retain_mut(|barrier| {
            if barrier.mark <= mark {
                barrier.connections.remove(&connection);
            }
            let waits = !barrier.connections.is_empty();
            if !waits {
                topics.announced(&barrier.topics);
            }
            waits
        });
    }

    fn handler(&mut self, library: super::handler::Library) -> Handler {
        if self.protocols.is_none() {
            let listens = library.listen_protocol();
            self.protocols = listens.upgrade().as_ref().left().cloned();
        }
        Handler::new(library)
    }
}

/// Go's identity of a message: who made it, and the number it has there.
pub(super) fn message_id(author: Option<&PeerId>, seqno: Option<u64>) -> MessageId {
    let mut id = author.map_or_else(Vec::new, |author| author.to_bytes());
    if let Some(seqno) = seqno {
        id.extend_from_slice(&seqno.to_be_bytes());
    }
    MessageId(id)
}

/// Reads `rpc` with the library's own reader, which alone can make its events.
fn decode(protocols: &Protocols, rpc: &pb::Rpc) -> Option<FromLibrary> {
    let stream = Cursor::new(rpc.encode_length_delimited_to_vec());
    let name = protocols.protocol_info().into_iter().next()?;
    let upgrade = protocols.clone().upgrade_inbound(stream, name);
    let (mut frames, _) = upgrade.now_or_never()?.ok()?;
    frames.next().now_or_never()??.ok()
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let library = self
            .library()
            .handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.handler(library))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let library = self
            .library()
            .handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(self.handler(library))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(event) => {
                let connections = self.connections.entry(event.peer_id).or_default();
                connections.insert(event.connection_id);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(connections) = self.connections.get_mut(&event.peer_id) {
                    connections.remove(&event.connection_id);
                }
                if event.remaining_established == 0 {
                    self.connections.remove(&event.peer_id);
                }
                let closed = event.connection_id;
                self.marks
                    .retain(|(_, connection, _)| *connection != closed);
                self.written(closed, u64::MAX);
            }
            _ => {}
        }
        self.library().on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: FromHandler,
    ) {
        match event {
            FromHandler::Written(mark) => self.written(connection, mark),
            FromHandler::Library(event) => {
                self.library()
                    .on_connection_handler_event(peer, connection, event);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, ToHandler>> {
        for _ in 0..BURST {
            match self.library().poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.on_event(event);
                    continue;
                }
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                }) => {
                    return Poll::Ready(ToSwarm::NotifyHandler {
                        peer_id,
                        handler,
                        event: ToHandler::Library(event),
                    });
                }
                // It dials only for peer exchange, which is off.
                Poll::Ready(_) => continue,
                Poll::Pending => {}
            }
            if let Some((peer_id, connection, mark)) = self.marks.pop_front() {
                return Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event: ToHandler::Mark(mark),
                });
            }
            let changes = self.parts.topics.changes(cx.waker());
            if !changes.is_empty() {
                self.announce(changes);
                continue;
            }
            match self.parts.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.on_command(command),
                Poll::Ready(None) | Poll::Pending => {
                    self.recent.expire();
                    return Poll::Pending;
                }
            }
        }
        // The rest of the swarm first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
