//! Asks other nodes whether they can dial this one.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use prost::Message as _;
use rand::seq::IndexedRandom as _;
use tokio::{
    sync::Notify,
    time::{sleep_until, timeout_at},
};

use super::{
    PROTOCOL,
    message::{Kind, MAX_MESSAGE, Message, Status},
    server::own_ips,
    verdict::{Answer, Verdict},
};
use crate::{
    memory::prefix,
    metrics::metrics,
    node::{Node, Reach, address_filter::Scope},
    wire::frame::{self, FrameReader},
};

/// Time before the first question, unless a peer that answers such questions comes earlier.
const BOOT_DELAY: Duration = Duration::from_secs(15);

/// Time between two questions while the answer is not sure.
const RETRY: Duration = Duration::from_secs(90);

/// Time between two questions while it is.
const REFRESH: Duration = Duration::from_secs(15 * 60);

/// Time between two questions while peers come that may answer.
const HASTE: Duration = Duration::from_secs(2);

/// Time between two questions to the same peer.
const PEER_PERIOD: Duration = Duration::from_secs(90);

/// Time for an answer: a server takes 15 s to say that it could not dial.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Addresses told: as many as go-libp2p's server dials.
const MAX_ADDRESSES: usize = 16;

/// What a node has said of a question.
enum Reply {
    Answer(Answer),
    /// It does not want to dial now: another is to be asked.
    Refused,
}

/// A peer that answers such questions has identified itself: the latest.
#[derive(Default)]
struct Came {
    peer: Mutex<Option<PeerId>>,
    notify: Notify,
}

impl Came {
    /// Waits for one, and until what it speaks is known to all.
    async fn next(&self, node: &Node) {
        self.notify.notified().await;
        let peer = self.peer.lock().take();
        if let Some(peer) = peer.and_then(|peer| node.streams().peers.get(&peer)) {
            peer.identified().await;
        }
    }
}

pub(super) struct Client {
    node: Node,
    verdict: Verdict,
    /// When each peer was asked last; those that may be asked again are forgotten.
    asked: HashMap<PeerId, Instant>,
    /// Nobody was asked before the daemon's start.
    last: Option<Instant>,
    begun: Instant,
    came: Arc<Came>,
}

impl Client {
    pub(super) fn new(node: Node) -> Self {
        let came = Arc::new(Came::default());
        let observer = came.clone();
        let peers = &node.streams().peers;
        peers.observe(Box::new(move |peer, protocols| {
            if protocols.iter().any(|name| name == PROTOCOL) {
                *observer.peer.lock() = Some(peer);
                observer.notify.notify_one();
            }
        }));
        Self {
            node,
            verdict: Verdict::default(),
            asked: HashMap::new(),
            last: None,
            begun: Instant::now(),
            came,
        }
    }

    pub(super) async fn run(mut self) {
        let mut addresses = self.node.watch_addresses();
        let mut hasty = false;
        loop {
            let next = self.next(hasty);
            tokio::select! {
                biased;
                () = self.came.next(&self.node) => {
                    hasty = true;
                    continue;
                }
                Ok(()) = addresses.changed() => {
                    addresses.mark_unchanged();
                    self.verdict.doubt();
                    continue;
                }
                () = sleep_until(next.into()) => {}
            }
            self.last = Some(Instant::now());
            hasty = match self.pick() {
                Some(peer) => self.probe(peer).await,
                None => false,
            };
        }
    }

    /// When to ask next; `hasty` if there is somebody new to ask, or somebody else.
    fn next(&self, hasty: bool) -> Instant {
        let reach = self.verdict.reach;
        let unknown = reach == Reach::Unknown;
        let Some(last) = self.last else {
            return match hasty {
                true => self.begun,
                false => self.begun + BOOT_DELAY,
            };
        };
        let visited = self.node.last_inbound().is_some_and(|at| at > last);
        let pause = match () {
            () if hasty && (unknown || self.verdict.waits_for_second()) => HASTE,
            () if self.verdict.is_unsure() => RETRY,
            () if visited && reach == Reach::Public => 2 * REFRESH,
            () if visited => RETRY,
            () => REFRESH,
        };
        last + pause
    }

    /// Somebody who answers such questions, is no neighbour, and was not asked lately.
    fn pick(&mut self) -> Option<PeerId> {
        self.asked.retain(|_, at| at.elapsed() < PEER_PERIOD);
        let own: Vec<_> = own_ips(&self.node.direct_addresses())
            .into_iter()
            .filter(|ip| Scope::of_ip(*ip) == Scope::Public)
            .collect();
        let far = |addresses: &[Multiaddr]| {
            let ips = own_ips(addresses);
            let mut public = ips.iter().filter(|ip| Scope::of_ip(**ip) == Scope::Public);
            let known = public.clone().next().is_some();
            known && !public.any(|ip| own.contains(ip))
        };
        let mut peers = self.node.peers_speaking(&[PROTOCOL]);
        peers.retain(|peer| !self.asked.contains_key(peer) && far(&self.remotes(peer)));
        peers.choose(&mut rand::rng()).copied()
    }

    /// Where this node is connected to `peer` without a relay.
    fn remotes(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let connected = self.node.streams().peers.get(peer);
        let connections = connected.map(|peer| peer.connections()).unwrap_or_default();
        let direct = connections.iter().filter(|connection| !connection.relayed);
        direct.map(|connection| connection.remote.clone()).collect()
    }

    /// Asks `peer` and takes note of what it says. Whether another is to be asked soon.
    async fn probe(&mut self, peer: PeerId) -> bool {
        self.asked.insert(peer, Instant::now());
        let Some(remote) = self.remotes(&peer).into_iter().next() else {
            return true;
        };
        let answer = match self.ask(peer, &remote).await {
            Some(Reply::Refused) => return true,
            Some(Reply::Answer(answer)) => answer,
            None => Answer::Nothing,
        };
        let before = self.verdict.reach;
        self.verdict.hear(answer, self.node.has_circuits());
        metrics().autonat.set_confidence(self.verdict.confidence());
        tracing::debug!(%peer, ?answer, reach = ?self.verdict.reach, "dial back asked for");
        if self.verdict.reach != before {
            tracing::info!(reach = ?self.verdict.reach, "reachability");
            self.node.set_reach(self.verdict.reach);
        }
        self.verdict.waits_for_second()
    }

    /// None if there is no proper answer.
    async fn ask(&self, peer: PeerId, remote: &Multiaddr) -> Option<Reply> {
        let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        let stream = self
            .node
            .open_service_stream(peer, Vec::new(), PROTOCOL, deadline);
        let mut stream = stream.await.ok()?;
        let mut addresses = self.node.direct_addresses();
        addresses.retain(|address| Scope::of_address(address) != Scope::Loopback);
        addresses.truncate(MAX_ADDRESSES);
        let request = frame::encode(&Message::ask(self.node.peer_id(), &addresses));
        let exchange = async {
            stream.write_all(&request).await.ok()?;
            let mut reader = FrameReader::new(MAX_MESSAGE, BytesMut::new());
            let answer = reader.next(&mut stream).await.ok()??;
            Message::decode(answer).ok()
        };
        let answer = timeout_at(deadline, exchange).await.ok()??;
        if answer.kind != Some(Kind::DialResponse.into()) {
            return None;
        }
        let status = answer.response?.status.unwrap_or_default();
        let status = Status::try_from(status).ok();
        metrics()
            .autonat
            .received(status.map_or("unknown", Status::label));
        Some(match status? {
            Status::Ok => Reply::Answer(Answer::Dialed(prefix(remote)?)),
            Status::DialError => Reply::Answer(Answer::Failed),
            Status::DialRefused => Reply::Refused,
            Status::BadRequest | Status::InternalError => Reply::Answer(Answer::Nothing),
        })
    }
}
