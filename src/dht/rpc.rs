//! Requests to other nodes, over streams that are kept for the next request.

use std::{collections::HashMap, io, time::Duration};

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    PROTOCOL,
    message::{self, Channel, MAX_PROVIDERS, Message, Type, is_own_limit},
};
use crate::node::{DialError, Node, StreamError};
use crate::wire::frame;

/// Time for an answer (go-libp2p-kad-dht's read timeout).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time to reach a peer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials under way for the DHT; the rest of the limit is for clients (SECURITY.md 3).
const MAX_DIALS: usize = 64;

/// Idle streams kept, one per peer at most.
const MAX_IDLE: usize = 1024;

/// How long an idle stream is kept. Go resets one after a minute of silence.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to finish an idle stream; afterwards it is reset.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers read until the one that is waited for.
const MAX_UNASKED: usize = 3;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RpcError {
    /// The peer was not reached, or gave no proper answer.
    Peer(io::Error),
    /// This daemon could not ask, or a limit of its own kept it from reading the answer: no
    /// fault of the peer's.
    Own(io::Error),
}

fn blame(error: io::Error) -> RpcError {
    if is_own_limit(&error) {
        RpcError::Own(error)
    } else {
        RpcError::Peer(error)
    }
}

/// Asks other nodes.
#[derive(Debug)]
pub(super) struct Rpc {
    node: Node,
    idle: Mutex<HashMap<PeerId, (Channel, Instant)>>,
    dials: Semaphore,
}

impl Rpc {
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            idle: Mutex::default(),
            dials: Semaphore::new(MAX_DIALS),
        }
    }

    /// Sends an encoded request to `peer`, which may be found at `addresses`, and returns its
    /// answer.
    pub(super) async fn request(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        frame: &[u8],
    ) -> Result<Message, RpcError> {
        self.exchange(peer, addresses, frame, None).await
    }

    /// Sends an encoded message that has no answer, and returns when the peer has dealt with
    /// it: a ping comes after it on the same stream, and streams are served in order.
    pub(super) async fn tell(&self, peer: PeerId, frame: &[u8]) -> Result<(), RpcError> {
        let ping = frame::encode(&message::request(Type::Ping, &[]));
        let frames = [frame, &ping].concat();
        let pong = self.exchange(peer, Vec::new(), &frames, Some(Type::Ping));
        pong.await.map(drop)
    }

    async fn exchange(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        frames: &[u8],
        wanted: Option<Type>,
    ) -> Result<Message, RpcError> {
        if let Some(channel) = self.take_idle(&peer) {
            match self.talk(peer, channel, frames, wanted).await {
                // The peer may have closed the stream in the meantime.
                Err(error) if error.kind() != io::ErrorKind::TimedOut => {}
                done => return done.map_err(blame),
            }
        }
        let channel = self.open(peer, addresses).await?;
        self.talk(peer, channel, frames, wanted)
            .await
            .map_err(blame)
    }

    /// The first answer, or the first of the `wanted` kind: some implementations answer what
    /// needs no answer.
    async fn talk(
        &self,
        peer: PeerId,
        mut channel: Channel,
        frames: &[u8],
        wanted: Option<Type>,
    ) -> io::Result<Message> {
        let talk = async {
            channel.send(frames).await?;
            for _ in 0..MAX_UNASKED {
                let answer = channel.receive(MAX_PROVIDERS).await?;
                let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
                if wanted.is_none_or(|wanted| answer.r#type() == wanted) {
                    return Ok(answer);
                }
            }
            Err(io::Error::other("answers to questions nobody asked"))
        };
        let answer = timeout(ANSWER_TIMEOUT, talk)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        channel.release();
        self.keep(peer, channel).await;
        Ok(answer)
    }

    async fn open(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<Channel, RpcError> {
        let _dial = if self.node.is_connected(&peer) {
            None
        } else {
            let place = self.dials.acquire().await;
            Some(place.map_err(|error| RpcError::Own(io::Error::other(error)))?)
        };
        let deadline = Instant::now() + DIAL_TIMEOUT;
        let opened = self
            .node
            .open_service_stream(peer, addresses, PROTOCOL, deadline);
        match opened.await {
            Ok(stream) => {
                let connected = self.node.streams().peers.get(&peer);
                let connected = connected
                    .ok_or_else(|| RpcError::Peer(io::ErrorKind::ConnectionReset.into()))?;
                Ok(Channel::new(stream, connected.account.clone()))
            }
            Err(error @ StreamError::Dial(DialError::Denied(_))) => {
                Err(RpcError::Own(io::Error::other(error)))
            }
            Err(error) => Err(RpcError::Peer(io::Error::other(error))),
        }
    }

    fn take_idle(&self, peer: &PeerId) -> Option<Channel> {
        let (channel, since) = self.idle.lock().remove(peer)?;
        (since.elapsed() < IDLE_TIMEOUT).then_some(channel)
    }

    async fn keep(&self, peer: PeerId, channel: Channel) {
        let surplus = {
            let mut idle = self.idle.lock();
            if idle.len() < MAX_IDLE || idle.contains_key(&peer) {
                idle.insert(peer, (channel, Instant::now()))
                    .map(|(channel, _)| channel)
            } else {
                Some(channel)
            }
        };
        if let Some(channel) = surplus {
            channel.close().await;
        }
    }

    /// Finishes streams that nobody has used for a while.
    pub(super) async fn sweep(&self) {
        let old: Vec<Channel> = self
            .idle
            .lock()
            .extract_if(|_, (_, since)| since.elapsed() >= IDLE_TIMEOUT)
            .map(|(_, (channel, _))| channel)
            .collect();
        // A peer that does not read delays none of the others.
        let closings = old
            .into_iter()
            .map(|channel| timeout(CLOSE_TIMEOUT, channel.close()));
        let _ = futures::future::join_all(closings).await;
    }
}
