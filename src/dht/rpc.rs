//! Requests to other nodes, over streams that are kept for the next request.

use std::{collections::HashMap, ops::Deref, time::Duration};

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    PROTOCOL,
    message::{self, Channel, ChannelError, MAX_PROVIDERS, Message, Type},
};
use crate::{
    fixed_limits::fixed_limit,
    memory::Charge,
    node::{DialError, Node, StreamError},
    wire::frame,
};

/// Time for an answer (go-libp2p-kad-dht's read timeout).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
fixed_limit!("DHT: answer of a peer", time ANSWER_TIMEOUT);

/// Time to reach a peer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials under way for the DHT; the rest of the limit is for clients (SECURITY.md 3).
const MAX_DIALS: usize = 64;
fixed_limit!("DHT: dials under way", MAX_DIALS);

/// Idle streams kept, one per peer at most.
const MAX_IDLE: usize = 1024;
fixed_limit!("DHT: idle streams kept for requests", MAX_IDLE);

/// How long an idle stream is kept. Go resets one after a minute of silence.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to finish an idle stream; afterwards it is reset.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers read until the one that is waited for.
const MAX_UNASKED: usize = 3;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    /// The peer was not reached, or does not speak the protocol.
    #[error("no stream to the peer")]
    Open(#[source] StreamError),
    /// The stream failed, or what came on it is no message.
    #[error("the stream failed")]
    Stream(#[source] ChannelError),
    /// There was no answer within [`ANSWER_TIMEOUT`].
    #[error("no answer in time")]
    TimedOut,
    /// The peer has ended the stream instead of an answer.
    #[error("the peer has ended the stream")]
    Ended,
    /// The peer answers, and never what it was asked.
    #[error("answers to questions nobody asked")]
    Unasked,
    /// The answer waited for others to be read, of which there are as many as may be, or as much is
    /// held because of the peer.
    #[error("too many large answers at once")]
    Busy,
    /// The daemon ends.
    #[error("the daemon ends")]
    Closing,
}

impl RpcError {
    /// Whether this daemon could not ask, or a limit of its own kept it from reading the answer:
    /// no fault of the peer's.
    pub(super) fn is_own(&self) -> bool {
        match self {
            Self::Open(error) => matches!(error, StreamError::Dial(DialError::Denied(_))),
            Self::Stream(error) => error.is_own_limit(),
            Self::Busy | Self::Closing => true,
            Self::TimedOut | Self::Ended | Self::Unasked => false,
        }
    }
}

/// What a peer has answered, charged to it for as long as it is held: whoever asked may wait for a
/// client that does not read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    message: Message,
    _held: Option<Charge>,
}

impl Deref for Answer {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
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
    ) -> Result<Answer, RpcError> {
        self.exchange(peer, addresses, frame, None).await
    }

    /// Asks `peer` for itself, which every server answers.
    pub(super) async fn check(&self, peer: PeerId) -> Result<(), RpcError> {
        let request = message::request(Type::FindNode, &peer.to_bytes());
        let frame = frame::encode(&request);
        let answer = self.exchange(peer, Vec::new(), &frame, Some(Type::FindNode));
        answer.await.map(drop)
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
    ) -> Result<Answer, RpcError> {
        if let Some(channel) = self.take_idle(&peer) {
            match self.talk(peer, channel, frames, wanted).await {
                // The peer may have closed the stream in the meantime.
                Err(RpcError::Ended) => {}
                Err(RpcError::Stream(error)) if error.is_lost() => {}
                done => return done,
            }
        }
        let channel = self.open(peer, addresses).await?;
        self.talk(peer, channel, frames, wanted).await
    }

    /// The first answer, or the first of the `wanted` kind: some implementations answer what
    /// needs no answer.
    async fn talk(
        &self,
        peer: PeerId,
        mut channel: Channel,
        frames: &[u8],
        wanted: Option<Type>,
    ) -> Result<Answer, RpcError> {
        let talk = async {
            channel.send(frames).await.map_err(RpcError::Stream)?;
            for _ in 0..MAX_UNASKED {
                let answer = channel.receive(MAX_PROVIDERS).await;
                let answer = answer.map_err(RpcError::Stream)?.ok_or(RpcError::Ended)?;
                if wanted.is_none_or(|wanted| answer.r#type() == wanted) {
                    return Ok(answer);
                }
            }
            Err(RpcError::Unasked)
        };
        let Ok(answer) = timeout(ANSWER_TIMEOUT, talk).await else {
            return Err(if channel.waits_for_others() {
                RpcError::Busy
            } else {
                RpcError::TimedOut
            });
        };
        let message = answer?;
        let held = channel.release_held(&message);
        self.keep(peer, channel).await;
        let held = held.map_err(|_| RpcError::Busy)?;
        Ok(Answer {
            message,
            _held: Some(held),
        })
    }

    async fn open(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<Channel, RpcError> {
        let _dial = if self.node.is_connected(&peer) {
            None
        } else {
            let place = self.dials.acquire().await;
            Some(place.map_err(|_| RpcError::Closing)?)
        };
        let deadline = Instant::now() + DIAL_TIMEOUT;
        let opened = self
            .node
            .open_service_stream(peer, addresses, PROTOCOL, deadline);
        let stream = opened.await.map_err(RpcError::Open)?;
        let connected = self.node.streams().peers.get(&peer);
        let connected = connected.ok_or(RpcError::Ended)?;
        Ok(Channel::new(stream, &connected.account))
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
