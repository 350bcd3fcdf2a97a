//! What every stream multiplexer does for the task that drives it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::task::AtomicWaker;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerExt};

use super::{
    buffered::{Backlog, Buffered},
    substream::Substream,
};

/// A connection that carries streams. An error of any method ends the connection.
pub(super) trait Engine: Send {
    /// The payload that the connection's streams hold.
    fn buffered(&self) -> Arc<Buffered>;

    /// Whether one more outbound stream would cost the connection.
    fn is_full(&self) -> bool {
        false
    }

    /// Opens a stream; pending while the remote has too many unanswered ones.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>>;

    /// Drives the connection and yields the remote's next stream.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>>;

    /// Sends what the other methods produced.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes the connection after sending what its streams have queued.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// After [`Engine::poll_close`]: ready once the remote has closed too, where it can be
    /// seen.
    fn poll_closed_by_remote(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A multiplexer of the library (mplex, quic) as an [`Engine`].
pub(super) struct Library<M: StreamMuxer> {
    pub(super) muxer: M,
    pub(super) wrap: fn(M::Substream, Arc<AtomicWaker>, Backlog) -> Substream,
    pub(super) driver: Arc<AtomicWaker>,
    pub(super) buffered: Arc<Buffered>,
}

impl<M: StreamMuxer> Library<M> {
    fn wrapped(&self, stream: M::Substream) -> Substream {
        let reader = Backlog::new(self.buffered.clone());
        (self.wrap)(stream, self.driver.clone(), reader)
    }
}

impl<M> Engine for Library<M>
where
    M: StreamMuxer + Send + Unpin,
    M::Error: std::error::Error + Send + Sync + 'static,
{
    fn buffered(&self) -> Arc<Buffered> {
        self.buffered.clone()
    }

    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let stream = ready!(self.muxer.poll_outbound_unpin(cx)).map_err(io::Error::other)?;
        Poll::Ready(Ok(self.wrapped(stream)))
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        self.driver.register(cx.waker());
        let stream = ready!(self.muxer.poll_inbound_unpin(cx)).map_err(io::Error::other)?;
        Poll::Ready(Ok(self.wrapped(stream)))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The only event is a change of the remote's address, which nothing here depends on.
        while Pin::new(&mut self.muxer)
            .poll(cx)
            .map_err(io::Error::other)?
            .is_ready()
        {}
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.muxer.poll_close_unpin(cx).map_err(io::Error::other)
    }
}
