//! One stream of a yamux connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};

use super::streams::{RemoteEnd, StreamState, Streams};

/// One yamux stream that knows a reset from an end of stream.
#[derive(Debug)]
pub(in crate::muxer) struct YamuxStream {
    inner: ::yamux::Stream,
    state: Arc<StreamState>,
    streams: Arc<Streams>,
    finished: bool,
    silent: bool,
}

impl YamuxStream {
    pub(super) fn new(inner: ::yamux::Stream, streams: Arc<Streams>) -> Self {
        Self {
            state: streams.state(inner.id().val()),
            streams,
            inner,
            finished: false,
            silent: false,
        }
    }

    /// See [`crate::muxer::Substream::close_only`].
    pub(in crate::muxer) fn close_only(&mut self) {
        self.silent = true;
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "stream reset")
}

impl AsyncRead for YamuxStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(0)) if !buf.is_empty() => match self.state.end() {
                RemoteEnd::Finished => Poll::Ready(Ok(0)),
                RemoteEnd::Open | RemoteEnd::Reset => Poll::Ready(Err(reset())),
            },
            Poll::Ready(Ok(n)) => {
                self.streams.read(&self.state, n);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(reset())),
            Poll::Pending => {
                self.state.reader.register(cx.waker());
                if self.state.end() == RemoteEnd::Reset {
                    return Poll::Ready(Err(reset()));
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for YamuxStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = written {
            self.streams.queued(n);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_close(cx))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for YamuxStream {
    fn drop(&mut self) {
        // yamux resets a stream that is still open both ways; where one side has finished
        // it would send a FIN or nothing.
        let abort = match self.state.end() {
            RemoteEnd::Open => self.finished && !self.silent,
            RemoteEnd::Finished => !self.finished,
            RemoteEnd::Reset => false,
        };
        self.streams.release(self.inner.id().val(), abort);
    }
}
