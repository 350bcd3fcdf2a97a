//! Inbound streams whose protocol the library serves.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use crate::muxer::Substream;

/// An inbound stream for the library, which has read nothing and written at most the
/// multistream header.
#[derive(Debug)]
pub(in super::super) struct LibraryStream {
    io: Substream,
    replay: Bytes,
    /// Bytes of the library's own header that are on the wire already.
    swallow: usize,
    /// The stream's place among all inbound streams.
    permit: Option<OwnedSemaphorePermit>,
}

impl LibraryStream {
    /// A stream on which the library reads `replay` first, and of whose first bytes `swallow` are
    /// not written.
    pub(super) fn new(io: Substream, replay: Bytes, swallow: usize) -> Self {
        Self {
            io,
            replay,
            swallow,
            permit: None,
        }
    }

    /// Counts the stream as one of the daemon's own, and keeps `permit` for as long as it.
    pub(in super::super) fn counted(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.io.set_background();
        self.permit = Some(permit);
        self
    }
}

impl AsyncRead for LibraryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.replay.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.replay.len().min(buf.len());
        self.replay.copy_to_slice(&mut buf[..n]);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for LibraryStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallow > 0 && !buf.is_empty() {
            let n = self.swallow.min(buf.len());
            self.swallow -= n;
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
