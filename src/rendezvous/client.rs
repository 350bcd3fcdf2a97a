//! Registers at rendezvous points, and connects to those that are found there.

use std::{collections::HashMap, io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::join_all, stream};
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    message::{DEFAULT_TTL, DiscoverResponse, MAX_ANSWER, Message, PROTOCOL, Status},
    points::Points,
    record::{FORMS, Record},
};
use crate::{
    fixed_limits::fixed_limit,
    node::{DialError, Node, StreamError, is_relayed},
    streams::UserStream,
    telemetry::Chain,
    wire::frame::{self, FrameReader, ReadError},
};

/// Between two questions to a point that answers.
const INTERVAL: Duration = Duration::from_secs(60);

/// After a point has failed; doubled each time, up to [`INTERVAL`].
const RETRY: Duration = Duration::from_secs(1);

/// After the own addresses have changed, which they seldom do alone.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two looks at whether the point is still connected.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// For all that is asked of a point at once.
const TIMEOUT: Duration = Duration::from_secs(30);

/// For all that is said at the end of the daemon. A point that does not take it keeps the
/// registration until it expires.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Names that are left at once.
const MAX_LEAVES: usize = 8;

/// For a connection to a peer that was found.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Registrations asked for at once, each followed by a further question while there are more.
const LIMIT: u64 = 100;
const MAX_QUESTIONS: usize = 10;

/// Peers that are connected to in one round, so many of them at once. The address book has all.
const MAX_CONNECTED: usize = 32;
const MAX_DIALS: usize = 8;

/// Peers of one point that are not reached yet, and how often each is tried.
const MAX_WAITING: usize = 256;
fixed_limit!("rendezvous: peers found that wait for a dial", MAX_WAITING);
const MAX_TRIES: u32 = 3;

/// A point, and what it knows of this node.
struct Point {
    node: Node,
    identity: Keypair,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    /// When the registration under each name is to be renewed.
    registered: HashMap<String, Instant>,
    /// From where to ask on, under each name.
    cookies: HashMap<String, Bytes>,
    /// Peers that were found and not reached yet, with how often that was tried.
    waiting: HashMap<PeerId, u32>,
    /// When the connection was made on which it was told all that.
    since: Option<Instant>,
    /// The form of registrations that it takes, among [`FORMS`].
    form: usize,
}

/// Why a point did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum PointError {
    #[error("not connected")]
    Connect(#[source] DialError),
    #[error("no stream")]
    Stream(#[source] StreamError),
    #[error("the request was not sent")]
    Send(#[source] io::Error),
    #[error("the answer cannot be read")]
    Read(#[source] ReadError),
    #[error("malformed answer")]
    Malformed(#[source] prost::DecodeError),
    #[error("the answer lacks what it is of")]
    Incomplete,
    #[error("closed without an answer")]
    Closed,
    #[error("no answer in time")]
    TimedOut,
    #[error("refused: {0:?}")]
    Refused(Option<Status>),
}

/// Meets others at every point until `closing`, then takes back what is registered there.
pub(super) async fn run(node: Node, identity: Keypair, points: Points, closing: CancellationToken) {
    let mut by_peer: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for address in points.points {
        let Some(Protocol::P2p(peer)) = address.iter().last() else {
            continue;
        };
        if peer == node.peer_id() {
            continue;
        }
        match by_peer.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, addresses)) => addresses.push(address),
            None => by_peer.push((peer, vec![address])),
        }
    }
    let meetings = by_peer.into_iter().map(|(peer, addresses)| {
        let point = Point {
            node: node.clone(),
            identity: identity.clone(),
            peer,
            addresses,
            registered: HashMap::new(),
            cookies: HashMap::new(),
            waiting: HashMap::new(),
            since: None,
            form: 0,
        };
        point.stay(&points.namespaces, &closing)
    });
    join_all(meetings).await;
}

impl Point {
    async fn stay(mut self, namespaces: &[String], closing: &CancellationToken) {
        closing.run_until_cancelled(self.keep(namespaces)).await;
        // A registration that was under way may have been taken.
        let leaving = stream::iter(namespaces)
            .for_each_concurrent(MAX_LEAVES, |namespace| self.unregister(namespace));
        let _ = timeout(LEAVE_TIMEOUT, leaving).await;
    }

    /// Nobody is dialed for it. rust-libp2p reads one request of a stream.
    async fn unregister(&self, namespace: &str) {
        if self.since.is_none() || !self.node.is_connected(&self.peer) {
            return;
        }
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        let stream = self
            .node
            .open_service_stream(self.peer, Vec::new(), PROTOCOL, deadline);
        let Ok(mut stream) = stream.await else {
            return;
        };
        let left = async {
            let request = frame::encode(&Message::unregister(namespace));
            stream.write_all(&request).await?;
            stream.close().await?;
            // The point ends the stream once it has read it.
            stream.read(&mut [0]).await
        };
        if let Err(error) = left.await {
            tracing::debug!(point = %self.peer, namespace, %error, "not unregistered");
        }
    }

    async fn keep(&mut self, namespaces: &[String]) {
        let mut own = self.node.watch_addresses();
        let mut pause = RETRY;
        loop {
            let wait = match self.round(namespaces).await {
                Ok(found) => {
                    pause = RETRY;
                    self.connect(found).await;
                    INTERVAL
                }
                Err(error) => {
                    tracing::debug!(point = %self.peer, error = %Chain(&error), "rendezvous failed");
                    // A point that has restarted knows neither.
                    self.registered.clear();
                    self.cookies.clear();
                    self.since = None;
                    pause = (2 * pause).min(INTERVAL);
                    pause
                }
            };
            let changed = async {
                match own.changed().await {
                    Ok(()) => sleep(SETTLE).await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => self.registered.clear(),
                () = self.lost() => {}
                () = sleep(wait) => {}
            }
            own.mark_unchanged();
        }
    }

    /// Waits until the connection to the point is lost, if there was one.
    async fn lost(&self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            if self.since.is_some() && self.node.streams().peers.get(&self.peer).is_none() {
                return;
            }
        }
    }

    /// Renews what is due and asks who is new. Peers, each with where it was found.
    async fn round(&mut self, namespaces: &[String]) -> Result<Vec<PeerId>, PointError> {
        let deadline = Instant::now() + TIMEOUT;
        let known = self.addresses.clone();
        let connected = self.node.connect_known(self.peer, known, deadline);
        connected.await.map_err(PointError::Connect)?;
        let since = self.node.streams().peers.get(&self.peer);
        let since = since.map(|peer| peer.since());
        if since != self.since {
            // It may have restarted.
            self.registered.clear();
            self.cookies.clear();
            self.since = since;
        }
        let mut found = Vec::new();
        for namespace in namespaces {
            let due = self.registered.get(namespace);
            if due.is_none_or(|due| *due <= Instant::now()) {
                self.register(namespace, deadline).await?;
            }
            found.extend(self.discover(namespace, deadline).await?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Registers under `namespace`, in the first form that the point takes.
    async fn register(&mut self, namespace: &str, deadline: Instant) -> Result<(), PointError> {
        let own: Vec<_> = self.node.addresses().iter().cloned().collect();
        if own.is_empty() {
            // Nobody could come. Others can still be found.
            return Ok(());
        }
        let mut last = PointError::Incomplete;
        for turn in 0..FORMS.len() {
            let form = (self.form + turn) % FORMS.len();
            let Some(record) = Record::of(&self.identity, &own, FORMS[form]) else {
                continue;
            };
            let request = Message::register(namespace, record, DEFAULT_TTL);
            let answer = self.ask(&request, deadline).await;
            let answer =
                answer.and_then(|answer| answer.register_response.ok_or(PointError::Incomplete));
            match answer {
                Ok(answer) if status(answer.status) == Some(Status::Ok) => {
                    let ttl = answer.ttl.filter(|ttl| *ttl > 0).unwrap_or(DEFAULT_TTL);
                    let renewal = Duration::from_secs(ttl.min(DEFAULT_TTL) * 7 / 8);
                    let due = Instant::now() + renewal.max(INTERVAL);
                    self.registered.insert(namespace.to_owned(), due);
                    self.form = form;
                    tracing::debug!(point = %self.peer, namespace, ttl, form = ?FORMS[form], "registered");
                    return Ok(());
                }
                Ok(answer) => last = PointError::Refused(status(answer.status)),
                // A point that cannot read the form ends the stream.
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Remembers who has registered under `namespace` since the last question.
    async fn discover(
        &mut self,
        namespace: &str,
        deadline: Instant,
    ) -> Result<Vec<PeerId>, PointError> {
        let mut found = Vec::new();
        for _ in 0..MAX_QUESTIONS {
            let cookie = self.cookies.get(namespace).cloned();
            let request = Message::discover(namespace, LIMIT, cookie);
            let answer = self.ask(&request, deadline).await?;
            let answer = answer.discover_response.ok_or(PointError::Incomplete)?;
            match status(answer.status) {
                Some(Status::Ok) => {}
                refused => return Err(PointError::Refused(refused)),
            }
            let more = answer.registrations.len() as u64 >= LIMIT;
            match answer.cookie.clone().filter(|cookie| !cookie.is_empty()) {
                Some(cookie) => self.cookies.insert(namespace.to_owned(), cookie),
                None => self.cookies.remove(namespace),
            };
            found.extend(self.learn(answer));
            if !more || !self.cookies.contains_key(namespace) {
                break;
            }
        }
        Ok(found)
    }

    /// Remembers those of an answer whose addresses the point may tell.
    fn learn(&self, answer: DiscoverResponse) -> Vec<PeerId> {
        let Some(connected) = self.node.streams().peers.get(&self.peer) else {
            return Vec::new();
        };
        let connections = connected.connections();
        let tellers: Vec<_> = connections
            .iter()
            .filter(|one| !is_relayed(&one.remote))
            .collect();
        let mut found = Vec::new();
        let records = answer.registrations.iter().take(2 * LIMIT as usize);
        for record in records.filter_map(|one| Record::read(one.peer.as_ref()?)) {
            if record.peer == self.node.peer_id() || record.peer == self.peer {
                continue;
            }
            let mut addresses = record.addresses;
            addresses.retain(|address| {
                let admits = |teller: &Multiaddr| self.node.admits(teller, address);
                tellers.iter().any(|teller| admits(&teller.remote))
            });
            if !addresses.is_empty() {
                tracing::debug!(peer = %record.peer, ?addresses, "found at a rendezvous point");
                self.node.learn(record.peer, addresses);
                found.push(record.peer);
            }
        }
        found
    }

    /// Connects to some of those that were found.
    async fn connect(&mut self, found: Vec<PeerId>) {
        for peer in found {
            if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&peer) {
                self.waiting.insert(peer, 0);
            }
        }
        let peers = &self.node.streams().peers;
        self.waiting
            .retain(|peer, tries| *tries < MAX_TRIES && peers.get(peer).is_none());
        let next = self.waiting.iter_mut().take(MAX_CONNECTED);
        let next: Vec<_> = next
            .map(|(peer, tries)| {
                *tries += 1;
                *peer
            })
            .collect();
        let node = &self.node;
        let dials = stream::iter(next).map(|peer| async move {
            let deadline = Instant::now() + CONNECT_TIMEOUT;
            let connected = node.connect_directly(peer, Vec::new(), deadline).await;
            if let Err(error) = connected {
                tracing::debug!(%peer, error = %Chain(&error), "found at a rendezvous point, but not reached");
            }
        });
        dials.buffer_unordered(MAX_DIALS).collect::<()>().await;
    }

    async fn ask(&self, request: &Message, deadline: Instant) -> Result<Message, PointError> {
        let known = self.addresses.clone();
        let stream = self
            .node
            .open_service_stream(self.peer, known, PROTOCOL, deadline);
        let stream = stream.await.map_err(PointError::Stream)?;
        let answer = timeout_at(deadline, exchange(stream, request)).await;
        answer.unwrap_or(Err(PointError::TimedOut))
    }
}

async fn exchange(mut stream: UserStream, request: &Message) -> Result<Message, PointError> {
    let request = frame::encode(request);
    let sent = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    sent.await.map_err(PointError::Send)?;
    let mut reader = FrameReader::new(MAX_ANSWER, BytesMut::new());
    let answer = reader.next(&mut stream).await.map_err(PointError::Read)?;
    let answer = Message::decode(answer.ok_or(PointError::Closed)?);
    let answer = answer.map_err(PointError::Malformed)?;
    let _ = stream.close().await;
    Ok(answer)
}

fn status(status: Option<i32>) -> Option<Status> {
    Status::try_from(status.unwrap_or_default()).ok()
}
