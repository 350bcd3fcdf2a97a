//! The two streams of a peer: one that it is written to on, one that it writes on.

use std::{future::poll_fn, io, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;
use prost::Message as _;
use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, timeout},
};

use super::{
    Inner,
    message::{self, Judge, MAX_RPC, Message, pb},
    outbox::{self, Outbox},
    router::Kind,
    seen::IdHash,
};
use crate::{
    muxer::Connection,
    streams::{Frames, InboundStream, Service, UserStream},
};

/// RPCs above 64 KiB read at once, of all peers together (SECURITY.md 3).
const MAX_LARGE: usize = 64;

/// Messages in one RPC: a peer that asked for many gets them together (SECURITY.md 3).
const MAX_RPC_MESSAGES: usize = 5000;

/// Time to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a stream that has failed is opened anew, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Time for a peer to take what waits for it when the daemon ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long a message of a peer waits while all that should get it have much to read.
const FORWARD_PATIENCE: Duration = Duration::from_millis(250);

/// New messages that subscribers here have yet to get, at most.
const BURST: usize = 8;

/// Work done for one stream before others get a turn; of that, a message, whose check takes time,
/// and any other field of an RPC.
const TURN: usize = 256;
const MESSAGE_WORK: usize = TURN / BURST;
const FIELD_WORK: usize = 1;

static LARGE_PLACES: Semaphore = Semaphore::const_new(MAX_LARGE);

impl Inner {
    /// identify tells that `peer` speaks `protocols`.
    pub(super) fn identified(self: &Arc<Self>, peer: PeerId, protocols: &[String]) {
        let speaks = self
            .protocols()
            .iter()
            .any(|own| protocols.iter().any(|name| name == own));
        if speaks && let Some(outbox) = self.router.met(peer) {
            let pubsub = self.clone();
            let known = protocols.to_vec();
            self.tasks.spawn(async move {
                pubsub.look_after(peer, known, &outbox).await;
            });
        }
    }

    /// Writes to `peer` as long as it is connected and the daemon runs.
    async fn look_after(&self, peer: PeerId, mut known: Vec<String>, outbox: &Outbox) {
        let peers = &self.node.streams().peers;
        let mut pause = FIRST_PAUSE;
        while !self.closing.is_cancelled() {
            let connected = peers.get(&peer).and_then(|peer| peer.best_connection());
            let Some(connection) = connected else {
                // It may have come back in this moment.
                if self.router.left(peer, || peers.get(&peer).is_some()) {
                    return;
                }
                yield_now().await;
                continue;
            };
            let begun = Instant::now();
            if let Err(error) = self.write_to(&connection, &known, outbox).await {
                tracing::debug!(%peer, %error, "pubsub stream failed");
            }
            outbox.fail();
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let pausing = timeout(pause, self.disconnected(peer));
            let _ = self.closing.run_until_cancelled(pausing).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
            // What the peer speaks may have changed, as may the connection.
            let now = peers.get(&peer).and_then(|peer| peer.protocols());
            known = now.map_or_else(Vec::new, |names| names.to_vec());
        }
        self.router.left(peer, || false);
    }

    /// Waits until `peer` is not connected.
    async fn disconnected(&self, peer: PeerId) {
        let peers = &self.node.streams().peers;
        loop {
            let changed = peers.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if peers.get(&peer).is_none() {
                return;
            }
            changed.await;
        }
    }

    /// Opens a stream on `connection` and writes until it fails or the daemon ends.
    async fn write_to(
        &self,
        connection: &Arc<Connection>,
        known: &[String],
        outbox: &Outbox,
    ) -> io::Result<()> {
        let opening = timeout(OPEN_TIMEOUT, self.open(connection, known));
        let Some(opened) = self.closing.run_until_cancelled(opening).await else {
            return Ok(());
        };
        let (mut stream, kind) = opened.map_err(|_| io::ErrorKind::TimedOut)??;
        self.router.speaks(connection.peer, kind, connection.dialed);
        let mut output = BytesMut::new();
        let writing = write(&mut stream, outbox, &mut output);
        if let Some(ended) = self.closing.run_until_cancelled(writing).await {
            return ended;
        }
        // Clients have been told that these are published. What is left in `output` comes first:
        // it may begin within an RPC.
        let last = async {
            loop {
                stream.write_all(&output).await?;
                output.clear();
                if poll_fn(|cx| Poll::Ready(outbox.poll_take(&mut output, cx).is_pending())).await {
                    return stream.close().await;
                }
            }
        };
        timeout(LAST_WORDS, last).await.unwrap_or(Ok(()))
    }

    async fn open(
        &self,
        connection: &Arc<Connection>,
        known: &[String],
    ) -> io::Result<(UserStream, Kind)> {
        let names: Vec<String> = self.protocols().iter().map(ToString::to_string).collect();
        let opened = self.node.streams().open(connection, known, &names).await;
        let (stream, name) = opened.map_err(io::Error::other)?;
        let kind = match name.as_str() {
            super::MESHSUB_11 => Kind::Gossipsub11,
            super::MESHSUB_10 => Kind::Gossipsub10,
            _ => Kind::Floodsub,
        };
        Ok((stream, kind))
    }

    /// Reads what peers write.
    pub(super) fn service(self: &Arc<Self>) -> Service {
        let pubsub = self.clone();
        Service::new(Box::new(move |inbound| {
            let pubsub = pubsub.clone();
            Box::pin(async move { pubsub.serve(inbound).await })
        }))
    }

    async fn serve(&self, inbound: InboundStream) {
        let InboundStream {
            peer, mut stream, ..
        } = inbound;
        let (number, superseded) = self.router.listen(peer);
        let mut fresh = Vec::with_capacity(BURST);
        let ended = superseded
            .run_until_cancelled(self.read(peer, &mut stream, &mut fresh))
            .await;
        self.hand_out(&mut fresh).await;
        match ended {
            // The peer has finished: so does this side.
            Some(Ok(())) => {
                let _ = stream.close().await;
            }
            Some(Err(error)) => tracing::debug!(%peer, %error, "pubsub stream failed"),
            None => {}
        }
        self.router.unlisten(peer, number);
    }

    /// Leaves in `fresh` what the subscribers here have yet to get.
    async fn read(
        &self,
        peer: PeerId,
        stream: &mut UserStream,
        fresh: &mut Vec<Arc<Message>>,
    ) -> io::Result<()> {
        let mut frames = Frames::new(MAX_RPC, &LARGE_PLACES);
        let mut judge = Judge::new(self.signing);
        let mut work = 0;
        while let Some(frame) = frames.next(stream).await? {
            let mut messages = 0;
            for field in message::fields(&frame.payload) {
                let (number, value) = field.map_err(io::Error::other)?;
                work += FIELD_WORK;
                match number {
                    1 => {
                        let change = pb::SubOpts::decode(value).map_err(io::Error::other)?;
                        self.router.on_subscription(peer, &change);
                    }
                    2 => {
                        work += MESSAGE_WORK;
                        messages += 1;
                        if messages > MAX_RPC_MESSAGES {
                            return Err(io::Error::other("too many messages in an RPC"));
                        }
                        let raw = pb::Message::decode(value).map_err(io::Error::other)?;
                        fresh.extend(self.take(peer, &raw, &mut judge).await);
                    }
                    3 => {
                        work += TURN;
                        let control = pb::Control::decode(value).map_err(io::Error::other)?;
                        self.router.on_control(peer, &control);
                    }
                    _ => {}
                }
                if work >= TURN {
                    work = 0;
                    self.hand_out(fresh).await;
                }
            }
            if !fresh.is_empty() && !frames.has_next() {
                self.hand_out(fresh).await;
            }
        }
        Ok(())
    }

    /// Brings messages to the subscribers here. Those who write to other peers get their turn
    /// first: they wait for nothing else, and two that are woken at once cost a thread switch.
    async fn hand_out(&self, messages: &mut Vec<Arc<Message>>) {
        yield_now().await;
        for message in messages.drain(..) {
            self.router.topics().deliver(&message);
        }
    }

    /// A message of `peer`, if it is true and new, on its way to other peers.
    async fn take(
        &self,
        peer: PeerId,
        raw: &pb::Message,
        judge: &mut Judge,
    ) -> Option<Arc<Message>> {
        let topic = raw.topic.as_deref().unwrap_or_default();
        let own = raw.from.as_deref() == Some(&*self.author.from);
        if own || !self.router.topics().has_subscribers(topic) {
            return None;
        }
        let id = message::message_id(raw.from.as_deref(), raw.seqno.as_deref());
        if self.router.has_seen(IdHash::of(&id)) {
            return None;
        }
        let message = match judge.judge(raw, topic.into()) {
            Ok(message) => Arc::new(message),
            Err(reason) => {
                self.router.refused(&peer, reason);
                return None;
            }
        };
        let spread = self.router.spread(&message, Some(peer), FORWARD_PATIENCE);
        spread.await.then_some(message)
    }
}

/// Writes what comes into `outbox`, until the peer ends the stream.
///
/// # Cancel safety
/// What was taken from `outbox` and not written stays in `output`.
async fn write(stream: &mut UserStream, outbox: &Outbox, output: &mut BytesMut) -> io::Result<()> {
    let mut flushed = true;
    poll_fn(|cx| {
        loop {
            while !output.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, output) else {
                    outbox.progress(false);
                    return poll_end(stream, cx);
                };
                let written = written?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                outbox::consume(output, written);
                outbox.progress(true);
                flushed = false;
            }
            if outbox.poll_take(output, cx).is_ready() {
                continue;
            }
            if !flushed {
                match Pin::new(&mut *stream).poll_flush(cx) {
                    Poll::Ready(done) => done?,
                    Poll::Pending => return poll_end(stream, cx),
                }
                flushed = true;
                outbox.flushed();
            }
            return poll_end(stream, cx);
        }
    })
    .await
}

/// Ready once the peer has ended a stream that it has nothing to say on.
fn poll_end(stream: &mut UserStream, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
    let mut nothing = [0; 16];
    let read = Pin::new(stream).poll_read(cx, &mut nothing);
    read.map(|read| match read? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::Error::other("a peer answers what needs no answer")),
    })
}
