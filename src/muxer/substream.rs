//! One stream of a connection, whatever multiplexes it.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    io::{AsyncRead, AsyncWrite},
    task::AtomicWaker,
};

use super::{
    SecureIo, buffered::Backlog, quic::QuicStream, stream_counts::StreamGuard,
    yamux::stream::YamuxStream,
};

/// A byte stream to the remote peer.
///
/// Closing finishes the sending side only. Dropping a stream that has not been closed
/// resets it, except on quic, whose library can only finish.
#[derive(Debug)]
pub struct Substream {
    // Dropped in this order: mplex sends its reset only when its connection is polled again.
    io: Io,
    _wake: WakeOnDrop,
    count: Option<StreamGuard>,
    backlog: Backlog,
}

enum Io {
    Yamux(YamuxStream),
    Mplex(libp2p_mplex::Substream<SecureIo>),
    Quic(QuicStream),
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yamux(stream) => stream.fmt(f),
            Self::Mplex(_) => f.write_str("mplex stream"),
            Self::Quic(_) => f.write_str("quic stream"),
        }
    }
}

#[derive(Debug)]
struct WakeOnDrop(Option<Arc<AtomicWaker>>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        if let Some(driver) = &self.0 {
            driver.wake();
        }
    }
}

impl Substream {
    pub(super) fn yamux(stream: YamuxStream, backlog: Backlog) -> Self {
        Self {
            io: Io::Yamux(stream),
            _wake: WakeOnDrop(None),
            count: None,
            backlog,
        }
    }

    /// Keeps `guard` for as long as the stream.
    #[must_use]
    pub(super) fn counted(mut self, guard: StreamGuard) -> Self {
        self.count = Some(guard);
        self
    }

    /// The stream is one of the daemon's own. A connection that has only such streams is idle.
    pub fn set_background(&mut self) {
        if let Some(guard) = &mut self.count {
            guard.set_background();
        }
    }

    /// Whoever reads the stream has to wait until it can pass on these bytes that it has read; 0
    /// says that it need not. While it has to, as much waits to be read as may, where the
    /// multiplexer does not tell how much it is.
    pub fn blocked(&mut self, bytes: usize) {
        self.backlog.set(bytes);
        if let Io::Quic(stream) = &mut self.io {
            stream.blocked(bytes > 0);
        }
    }

    /// Whether the connection has ended. A stream that nothing is read from or written to does not
    /// notice by itself.
    pub fn is_gone(&self) -> bool {
        self.count.as_ref().is_some_and(StreamGuard::is_gone)
    }

    /// From now on no reset follows a close. The library's protocols close and leave while
    /// the remote still has to write its part of the negotiation, which a reset would fail.
    #[must_use]
    pub fn close_only(mut self) -> Self {
        if let Io::Yamux(stream) = &mut self.io {
            stream.close_only();
        }
        self
    }

    pub(super) fn mplex(
        stream: libp2p_mplex::Substream<SecureIo>,
        driver: Arc<AtomicWaker>,
        backlog: Backlog,
    ) -> Self {
        Self {
            io: Io::Mplex(stream),
            _wake: WakeOnDrop(Some(driver)),
            count: None,
            backlog,
        }
    }

    pub(super) fn quic(stream: libp2p::quic::Stream, backlog: Backlog) -> Self {
        Self {
            io: Io::Quic(QuicStream::new(stream)),
            _wake: WakeOnDrop(None),
            count: None,
            backlog,
        }
    }
}

macro_rules! each {
    ($self:ident, $method:ident($($arg:expr),*)) => {
        match &mut $self.io {
            Io::Yamux(stream) => Pin::new(stream).$method($($arg),*),
            Io::Mplex(stream) => Pin::new(stream).$method($($arg),*),
            Io::Quic(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = each!(self, poll_read(cx, buf));
        if let (Poll::Ready(Ok(bytes)), Some(guard)) = (&read, &self.count) {
            guard.received(*bytes);
        }
        read
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = each!(self, poll_write(cx, buf));
        if let (Poll::Ready(Ok(bytes)), Some(guard)) = (&written, &self.count) {
            guard.sent(*bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_close(cx))
    }
}
