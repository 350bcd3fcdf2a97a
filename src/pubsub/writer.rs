//! The stream that is written to a peer: opened when identify says that the peer speaks pubsub,
//! and opened again when it fails, for as long as the peer is connected.

use std::{future::poll_fn, io, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;
use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};

use super::{
    Inner,
    router::PeerKind,
    rpc_queue::{self, RpcQueue},
};
use crate::telemetry::Chain;
use crate::{
    muxer::Connection,
    streams::{StreamUser, UserStream},
};

/// Time to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a stream that has failed is opened again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Time for a peer to take what is queued for it when the daemon ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

impl Inner {
    /// identify has learned that `peer` speaks `protocols`.
    pub(super) fn identified(self: &Arc<Self>, peer: PeerId, protocols: &[String]) {
        let speaks = self
            .protocols()
            .iter()
            .any(|own| protocols.iter().any(|name| name == own));
        if !speaks {
            return;
        }
        let Some(connected) = self.node.streams().peers.get(&peer) else {
            return;
        };
        if let Some(queue) = self.router.new_peer(peer, &connected.account) {
            let pubsub = self.clone();
            let known = protocols.to_vec();
            self.tasks.spawn(async move {
                pubsub.keep_writing(peer, known, &queue).await;
            });
        }
    }

    /// Writes to `peer` as long as it is connected and the daemon runs.
    async fn keep_writing(&self, peer: PeerId, mut known: Vec<String>, queue: &RpcQueue) {
        let peers = &self.node.streams().peers;
        let mut pause = FIRST_PAUSE;
        while !self.closing.is_cancelled() {
            let connected = peers.get(&peer).and_then(|peer| peer.best_connection());
            let Some(connection) = connected else {
                // It may have come back in this moment.
                if self.router.remove_peer(peer, || peers.get(&peer).is_some()) {
                    return;
                }
                yield_now().await;
                continue;
            };
            let begun = Instant::now();
            if let Err(error) = self.write_to(&connection, &known, queue).await {
                tracing::debug!(%peer, error = %Chain(&error), "pubsub stream failed");
            }
            queue.fail();
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
        self.router.remove_peer(peer, || false);
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
        queue: &RpcQueue,
    ) -> io::Result<()> {
        let opening = timeout(OPEN_TIMEOUT, self.open(connection, known));
        let Some(opened) = self.closing.run_until_cancelled(opening).await else {
            return Ok(());
        };
        let (mut stream, kind) = opened.map_err(|_| io::ErrorKind::TimedOut)??;
        self.router
            .add_peer(connection.peer, kind, connection.dialed);
        let mut output = BytesMut::new();
        let writing = write(&mut stream, queue, &mut output);
        if let Some(ended) = self.closing.run_until_cancelled(writing).await {
            return ended;
        }
        // Clients have been told that these are published. What is left in `output` comes first:
        // it may begin within an RPC.
        let last = async {
            loop {
                stream.write_all(&output).await?;
                output.clear();
                if poll_fn(|cx| Poll::Ready(queue.poll_take(&mut output, cx).is_pending())).await {
                    return stream.close().await;
                }
            }
        };
        timeout(FLUSH_TIMEOUT, last).await.unwrap_or(Ok(()))
    }

    async fn open(
        &self,
        connection: &Arc<Connection>,
        known: &[String],
    ) -> io::Result<(UserStream, PeerKind)> {
        let names: Vec<_> = self.protocols().iter().copied().map(Into::into).collect();
        let opened = self
            .node
            .streams()
            .open(connection, known, &names, StreamUser::Daemon)
            .await;
        let (stream, name) = opened.map_err(io::Error::other)?;
        let kind = match name.to_str() {
            Some(super::MESHSUB_11) => PeerKind::Gossipsub11,
            Some(super::MESHSUB_10) => PeerKind::Gossipsub10,
            _ => PeerKind::Floodsub,
        };
        Ok((stream, kind))
    }
}

/// Writes what comes into `queue`, until the peer ends the stream.
///
/// # Cancel safety
/// What was taken from `queue` and not written stays in `output`.
async fn write(stream: &mut UserStream, queue: &RpcQueue, output: &mut BytesMut) -> io::Result<()> {
    let mut flushed = true;
    poll_fn(|cx| {
        loop {
            while !output.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, output) else {
                    queue.progress(false);
                    return poll_end(stream, cx);
                };
                let written = written?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                rpc_queue::consume(output, written);
                queue.progress(true);
                flushed = false;
            }
            if queue.poll_take(output, cx).is_ready() {
                continue;
            }
            if !flushed {
                match Pin::new(&mut *stream).poll_flush(cx) {
                    Poll::Ready(done) => done?,
                    Poll::Pending => return poll_end(stream, cx),
                }
                flushed = true;
                queue.flushed();
            }
            return poll_end(stream, cx);
        }
    })
    .await
}

/// Ready once the peer has ended the stream, on which it never writes.
fn poll_end(stream: &mut UserStream, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
    let mut nothing = [0; 16];
    let read = Pin::new(stream).poll_read(cx, &mut nothing);
    read.map(|read| match read? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::Error::other("the peer writes on a stream of ours")),
    })
}
