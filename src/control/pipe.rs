//! Payload between a client's socket and a libp2p stream (COMPATIBILITY.md 5).
//!
//! Each direction that ends shuts down only its own way out. What the client sent before it
//! closed is delivered and finished before anything is reset; a reset of the stream closes
//! the socket. An idle pipe holds no buffer.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::io::{AsyncRead as _, AsyncWrite as _};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::{Sleep, sleep},
};

use super::socket::Socket;
use crate::{memory::Stuck, streams::UserStream, wire::scratch::with_scratch};

/// How often a pipe with one finished direction looks after the other.
const TICK: Duration = Duration::from_secs(1);

/// Ticks without a byte after which a half-finished pipe is reset: a Go peer that has closed
/// both ways discards what it gets and never says so.
const LINGER_TICKS: u32 = 300;

/// One direction: bytes read but not yet written, and how far its end has come.
#[derive(Debug, Default)]
struct Way {
    pending: Bytes,
    source_ended: bool,
    done: bool,
}

/// A running pipe. Resolves when both directions are done.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: Socket,
    stream: UserStream,
    up: Way,
    down: Way,
    /// The client does not read as fast as bytes come.
    stuck: Option<Stuck>,
    /// The client reads no more: what still comes for it is thrown away.
    discard: bool,
    moved: bool,
    idle_ticks: u32,
    tick: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    /// `early` is what the client sent already, `preface` what it gets first.
    pub(super) fn new(socket: Socket, stream: UserStream, early: Bytes, preface: Bytes) -> Self {
        let way = |pending| Way {
            pending,
            ..Way::default()
        };
        Self {
            socket,
            stream,
            up: way(early),
            down: way(preface),
            stuck: None,
            discard: false,
            moved: false,
            idle_ticks: 0,
            tick: None,
        }
    }

    /// Socket to stream. An error means the stream must be reset.
    fn poll_up(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        loop {
            while !self.up.pending.is_empty() {
                let stream = Pin::new(&mut self.stream);
                let n = ready!(stream.poll_write(cx, &self.up.pending))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.moved = true;
                self.up.pending.advance(n);
            }
            if self.up.source_ended {
                self.up.pending = Bytes::new();
                ready!(Pin::new(&mut self.stream).poll_close(cx))?;
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.discard = true;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    // Nothing more for now: let go of what the multiplexer holds back.
                    ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
            let mut read = buffer.filled();
            self.up.source_ended = read.is_empty();
            while !read.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, read)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(n) => {
                        self.moved = true;
                        read = &read[n..];
                    }
                    Poll::Pending => {
                        self.up.pending = Bytes::copy_from_slice(read);
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Stream to socket. An error means the stream failed.
    fn poll_down(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        loop {
            while !self.down.pending.is_empty() && !self.discard {
                match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.down.pending)) {
                    Ok(n) if n > 0 => {
                        self.moved = true;
                        self.down.pending.advance(n);
                    }
                    Ok(_) | Err(_) => self.discard = true,
                }
            }
            if self.down.source_ended {
                self.down.pending = Bytes::new();
                // A socket that is gone needs no shutdown.
                let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
                return Poll::Ready(Ok(()));
            }
            if self.stuck.take().is_some() {
                self.stream.blocked(0);
            }
            let n = ready!(Pin::new(&mut self.stream).poll_read(cx, scratch))?;
            self.moved = true;
            self.down.source_ended = n == 0;
            let mut read = &scratch[..n];
            while !read.is_empty() && !self.discard {
                match Pin::new(&mut self.socket).poll_write(cx, read) {
                    Poll::Ready(Ok(n)) if n > 0 => read = &read[n..],
                    Poll::Ready(_) => self.discard = true,
                    Poll::Pending => {
                        self.down.pending = Bytes::copy_from_slice(read);
                        let buffer = self.socket.send_buffer();
                        self.stream.blocked(read.len() + buffer);
                        self.stuck = Some(Stuck::new(buffer));
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// While one direction is finished: whether the other has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(TICK)));
            ready!(tick.as_mut().poll(cx));
            self.tick = None;
            if self.up.done && (self.discard || self.socket.hung_up()) {
                // The client is gone and has been told nothing for a whole tick.
                return Poll::Ready(());
            }
            self.idle_ticks = if std::mem::take(&mut self.moved) {
                0
            } else {
                self.idle_ticks + 1
            };
            if self.idle_ticks >= LINGER_TICKS {
                return Poll::Ready(());
            }
        }
    }

    fn poll_ways(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        if !self.up.done {
            match self.poll_up(cx, scratch) {
                Poll::Ready(Ok(())) => {
                    self.up.done = true;
                    if self.socket.hung_up() {
                        self.discard = true;
                    }
                }
                // What the remote sent before it reset is still delivered; the same error
                // then ends the other direction.
                Poll::Ready(Err(_)) => self.up.done = true,
                Poll::Pending => {}
            }
        }
        if !self.down.done {
            match self.poll_down(cx, scratch) {
                Poll::Ready(Ok(())) => self.down.done = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if self.up.done && self.down.done {
            return Poll::Ready(());
        }
        if self.up.done || self.down.done || self.discard {
            return self.poll_linger(cx);
        }
        Poll::Pending
    }
}

impl Future for Pipe {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        with_scratch(|scratch| this.poll_ways(cx, scratch))
    }
}
