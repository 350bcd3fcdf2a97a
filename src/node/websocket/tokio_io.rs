//! A connection as the codec of websockets takes it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::io::ReadBuf;

/// Bytes read at once. The largest noise frame.
const CHUNK: usize = 64 * 1024;

/// The remote has sent more than a message may have, and no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a websocket message is longer than {0} bytes")]
struct TooLong(usize);

/// A connection between the two kinds of traits, whose writes stay vectored: a frame and its header
/// go out together.
#[derive(Debug)]
pub(super) struct TokioIo<T> {
    io: T,
    /// What came behind the handshake.
    early: Bytes,
    /// Bytes of a message.
    max: usize,
    /// Bytes that may still be read before there is a message.
    left: usize,
}

impl<T> TokioIo<T> {
    /// A message has at most `max` bytes, in however many parts it comes: the codec bounds what it
    /// has of a message, and each part, but not both together.
    pub(super) fn new(io: T, early: Bytes, max: usize) -> Self {
        Self {
            io,
            early,
            max,
            left: budget(max),
        }
    }

    /// A message was there.
    pub(super) fn received(&mut self) {
        self.left = budget(self.max);
    }

    /// A message of so many bytes was there that may come within another one.
    pub(super) fn received_within(&mut self, bytes: usize) {
        self.left = budget(self.max).min(self.left.saturating_add(bytes));
    }
}

/// Bytes that are read for one message: its own, those of the headers of its parts, and what is
/// read of the next one.
fn budget(max: usize) -> usize {
    max + 2 * CHUNK
}

impl<T: AsyncRead + Unpin> tokio::io::AsyncRead for TokioIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let n = self.early.len().min(out.remaining());
            out.put_slice(&self.early[..n]);
            self.early.advance(n);
            if self.early.is_empty() {
                self.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                TooLong(self.max),
            )));
        }
        let wanted = out.remaining().min(CHUNK).min(self.left);
        let room = out.initialize_unfilled_to(wanted);
        let n = ready!(Pin::new(&mut self.io).poll_read(cx, room))?;
        out.advance(n);
        self.left -= n;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> tokio::io::AsyncWrite for TokioIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
