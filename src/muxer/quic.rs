//! One stream of a quic connection. The library reads the socket and keeps what has come; here is
//! where that is seen first, and where it is slowed: what is not read makes no room for more.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};

use crate::memory::{Throttle, Unseen, received};

pub(super) struct QuicStream {
    io: libp2p::quic::Stream,
    throttle: Throttle,
    /// Its reader waits, and nobody counts what comes meanwhile.
    unseen: Option<Unseen>,
}

impl QuicStream {
    pub(super) fn new(io: libp2p::quic::Stream) -> Self {
        Self {
            io,
            throttle: Throttle::default(),
            unseen: None,
        }
    }

    /// See [`super::Substream::blocked`].
    pub(super) fn blocked(&mut self, blocked: bool) {
        if !blocked {
            self.unseen = None;
        } else if self.unseen.is_none() {
            self.unseen = Some(Unseen::new());
        }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.throttle.poll(cx, out.len()));
        let n = ready!(Pin::new(&mut self.io).poll_read(cx, &mut out[..most]))?;
        received(n);
        self.throttle.read(n);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
