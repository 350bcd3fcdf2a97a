//! The bytes that a websocket carries. The bounds of its messages mean nothing to what runs over it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{
    Sink as _, Stream as _,
    io::{AsyncRead, AsyncWrite},
};
use tokio::io::AsyncWrite as _;
use tokio_websockets::{
    ClientBuilder, Config, Error, Limits, Message, ServerBuilder, WebSocketStream,
};

use super::tokio_io::TokioIo;
use crate::fixed_limits::fixed_limit;

/// Largest websocket message accepted; yamux, noise and tls write far smaller ones (SECURITY.md 3).
pub(in crate::node) const MAX_MESSAGE: usize = 1 << 20;
fixed_limit!("websocket message", bytes MAX_MESSAGE);

/// Largest message sent. The largest noise frame.
const SENT: usize = 64 * 1024;

/// Pings that may wait for their answers to be written. The codec itself has no bound.
const MAX_UNANSWERED: usize = 8;
fixed_limit!(
    "websocket pings whose answers are not written",
    MAX_UNANSWERED
);

/// Bytes of the header of a ping, with its mask.
const CONTROL_HEADER: usize = 6;

/// Messages without bytes that are taken before others get their turns.
const MAX_EMPTY: usize = 32;

/// Which end of a websocket this is: the one that has dialed masks what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// A websocket whose handshake is done.
#[derive(Debug)]
pub(in crate::node) struct Websocket<T> {
    io: WebSocketStream<TokioIo<T>>,
    /// What has come and was not read.
    unread: Bytes,
    /// Pings since everything was written.
    unanswered: usize,
    ended: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Websocket<T> {
    /// `early` is what came behind the handshake.
    pub(super) fn new(io: T, early: Bytes, end: End) -> Self {
        let io = TokioIo::new(io, early, MAX_MESSAGE);
        let config = Config::default().frame_size(SENT).flush_threshold(SENT);
        let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE));
        let io = match end {
            End::Client => ClientBuilder::new()
                .config(config)
                .limits(limits)
                .take_over(io),
            End::Server => ServerBuilder::new().config(config).limits(limits).serve(io),
        };
        Self {
            io,
            unread: Bytes::new(),
            unanswered: 0,
            ended: false,
        }
    }

    fn copy(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.unread.len());
        out[..n].copy_from_slice(&self.unread[..n]);
        self.unread.advance(n);
        if self.unread.is_empty() {
            // The codec reuses its memory once nobody else has it.
            self.unread = Bytes::new();
        }
        n
    }
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Websocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        for _ in 0..MAX_EMPTY {
            if !this.unread.is_empty() {
                return Poll::Ready(Ok(this.copy(out)));
            }
            if this.ended {
                return Poll::Ready(Ok(0));
            }
            if this.unanswered >= MAX_UNANSWERED {
                ready!(Pin::new(&mut this.io).poll_flush(cx)).map_err(failed)?;
                this.unanswered = 0;
            }
            match ready!(Pin::new(&mut this.io).poll_next(cx)) {
                Some(Ok(message)) if message.is_binary() || message.is_text() => {
                    this.io.get_mut().received();
                    this.unread = message.into_payload().into();
                }
                // A ping, a pong, or the end, which is followed by nothing.
                Some(Ok(message)) => {
                    this.unanswered += usize::from(message.is_ping());
                    let size = message.as_payload().len() + CONTROL_HEADER;
                    this.io.get_mut().received_within(size);
                }
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Err(failed(error)));
                }
                None => this.ended = true,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Websocket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.io).poll_ready(cx)).map_err(failed)?;
        let n = bytes.len().min(SENT);
        let message = Message::binary(BytesMut::from(&bytes[..n]));
        Pin::new(&mut self.io).start_send(message).map_err(failed)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx).map_err(failed)
    }

    /// Says that it closes, and does not wait for the remote to say so too.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It may have been said before.
        let _ = Pin::new(&mut self.io).start_send(Message::close(None, ""));
        ready!(Pin::new(&mut self.io).poll_flush(cx)).map_err(failed)?;
        Pin::new(self.io.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
