//! The yamux crate behind [`Engine`], with limits that never cost the connection.

mod frames;
pub(crate) mod fuzzing;
pub(super) mod stream;
mod streams;
mod tap;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::yamux::{Config, Connection, ConnectionError, Mode};

use super::{
    SecureIo,
    buffered::{Backlog, Buffered},
    engine::Engine,
    substream::Substream,
};
use stream::YamuxStream;
use streams::Streams;

/// Streams yamux itself admits on one connection. At this count it terminates the
/// connection, so [`super::MAX_STREAMS`] refuses streams well before.
const HARD_LIMIT: usize = 4 * super::MAX_STREAMS;

/// Receive window that every yamux stream starts with, by its specification.
const STREAM_WINDOW: usize = 256 * 1024;

/// How far the windows of one connection may grow beyond their start, together. The remote
/// can provoke growth by answering pings late; what it may send unread stays bounded.
const WINDOW_GROWTH: usize = 16 * 1024 * 1024;

/// Largest data frame written. Fits a noise frame together with its header.
const FRAME: usize = 32 * 1024;

pub(super) struct YamuxEngine {
    connection: Connection<tap::Tap<SecureIo>>,
    handle: tap::Handle<SecureIo>,
    streams: Arc<Streams>,
}

impl YamuxEngine {
    pub(super) fn new(io: SecureIo, dialer: bool) -> Self {
        let mut config = Config::default();
        config.set_max_connection_receive_window(Some(HARD_LIMIT * STREAM_WINDOW + WINDOW_GROWTH));
        config.set_max_num_streams(HARD_LIMIT);
        config.set_split_send_size(FRAME);
        let mode = if dialer { Mode::Client } else { Mode::Server };
        let streams = Arc::new(Streams::default());
        let (io, handle) = tap::tap(io, streams.clone());
        Self {
            connection: Connection::new(io, config, mode),
            handle,
            streams,
        }
    }

    fn wrap(&self, inner: ::yamux::Stream) -> Substream {
        let stream = YamuxStream::new(inner, self.streams.clone());
        Substream::yamux(stream, Backlog::new(self.buffered()))
    }
}

impl Engine for YamuxEngine {
    fn buffered(&self) -> Arc<Buffered> {
        self.streams.buffered.clone()
    }

    fn is_full(&self) -> bool {
        self.streams.count() >= HARD_LIMIT / 2
    }

    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let stream = ready!(self.connection.poll_new_outbound(cx)).map_err(into_io)?;
        Poll::Ready(Ok(self.wrap(stream)))
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        self.streams.driver.register(cx.waker());
        match ready!(self.connection.poll_next_inbound(cx)) {
            Some(Ok(stream)) => Poll::Ready(Ok(self.wrap(stream))),
            Some(Err(error)) => Poll::Ready(Err(into_io(error))),
            None => Poll::Ready(Err(closed_by_remote())),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(into_io)
    }

    fn poll_closed_by_remote(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.handle.poll_end(cx)
    }
}

impl Drop for YamuxEngine {
    fn drop(&mut self) {
        self.streams.connection_lost();
    }
}

fn closed_by_remote() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "connection closed")
}

fn into_io(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        ConnectionError::Closed => closed_by_remote(),
        other => io::Error::other(other),
    }
}
