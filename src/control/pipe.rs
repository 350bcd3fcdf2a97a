//! Payload between a client's socket and a libp2p stream (COMPATIBILITY.md 5).
//!
//! Each direction that ends shuts down only its own way out. What the client sent before it
//! closed is delivered and finished before anything is reset; a reset of the stream closes
//! the socket. An idle pipe holds no buffer.
//!
//! Once the daemon ends, a pipe lasts for as long as bytes move or wait to be delivered. One on
//! which nothing happens for [`QUIET`] is reset.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::socket::Socket;
use crate::{
    fixed_limits::fixed_limit, memory::Stuck, shutdown::Drain, streams::UserStream,
    wire::scratch::with_scratch,
};

/// How often a pipe with one finished direction looks after the other.
const TICK: Duration = Duration::from_secs(1);

/// Ticks without a byte after which a half-finished pipe is reset: a Go peer that has closed
/// both ways discards what it gets and never says so.
const LINGER_TICKS: u32 = 300;
fixed_limit!(
    "half-closed pipe without a byte, ticks of 1 s",
    LINGER_TICKS
);

/// How long nothing may happen on a pipe while the daemon ends.
const QUIET: Duration = Duration::from_millis(300);

/// The stream of a pipe.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// So many bytes cannot be handed on; see [`UserStream::blocked`].
    fn blocked(&mut self, bytes: usize);

    /// Whether the connection has ended; see [`UserStream::is_gone`].
    fn is_gone(&self) -> bool {
        false
    }

    /// Whether a limit holds up what has arrived; see [`UserStream::is_held_up`].
    fn is_held_up(&self) -> bool {
        false
    }
}

impl Stream for UserStream {
    fn blocked(&mut self, bytes: usize) {
        Self::blocked(self, bytes);
    }

    fn is_gone(&self) -> bool {
        Self::is_gone(self)
    }

    fn is_held_up(&self) -> bool {
        Self::is_held_up(self)
    }
}

/// One direction: bytes read but not yet written, and how far its end has come.
#[derive(Debug, Default)]
struct Way {
    pending: Bytes,
    source_ended: bool,
    done: bool,
}

impl Way {
    /// `n` pending bytes are written. The last ones take their memory along.
    fn advance(&mut self, n: usize) {
        self.pending.advance(n);
        if self.pending.is_empty() {
            self.pending = Bytes::new();
        }
    }
}

/// How a pipe has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both directions, each at its end.
    Whole,
    /// The stream was reset.
    Reset,
    /// The client has left, or nothing moved any more.
    Left,
}

/// A running pipe. Resolves when both directions are done.
#[derive(Debug)]
pub(super) struct Pipe<S = UserStream> {
    socket: Socket,
    stream: S,
    up: Way,
    down: Way,
    /// Bytes written to the stream may not be on their way yet.
    flushing: bool,
    /// The client does not read as fast as bytes come.
    stuck: Option<Stuck>,
    /// The client reads no more: what still comes for it is thrown away.
    discard: bool,
    moved: bool,
    idle_ticks: u32,
    tick: Option<Pin<Box<Sleep>>>,
    drain: Drain,
    /// Wakes the pipe when the daemon ends. Polled once only: its lock is everybody's.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The pipe has seen that the daemon ends.
    draining: bool,
    /// A direction has ended by an error.
    failed: bool,
    /// The client is told when the stream is cut.
    resetting: bool,
}

impl<S: Stream> Pipe<S> {
    /// `early` is what the client sent already, `preface` what it gets first.
    ///
    /// One task polls the pipe from its first to its last poll.
    pub(super) fn new(
        socket: Socket,
        stream: S,
        early: Bytes,
        preface: Bytes,
        drain: Drain,
    ) -> Self {
        let way = |pending| Way {
            pending,
            ..Way::default()
        };
        Self {
            socket,
            stream,
            up: way(early),
            down: way(preface),
            flushing: false,
            stuck: None,
            discard: false,
            moved: false,
            idle_ticks: 0,
            tick: None,
            ending: None,
            draining: false,
            failed: false,
            resetting: false,
            drain,
        }
    }

    /// A tcp client sees a reset, not an end, unless both directions have come to theirs.
    pub(super) fn resetting(mut self) -> Self {
        self.socket.set_abortive(true);
        self.resetting = true;
        self
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
                self.up.advance(n);
            }
            if self.up.source_ended {
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
                    let flushed = Pin::new(&mut self.stream).poll_flush(cx)?;
                    self.flushing = flushed.is_pending();
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
                        self.down.advance(n);
                    }
                    Ok(_) | Err(_) => self.discard = true,
                }
            }
            if self.down.source_ended {
                self.down.pending = Bytes::new();
                // If the other direction is done as well, the socket is closed at once.
                if !self.up.done {
                    // A socket that is gone needs no shutdown.
                    let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
                }
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

    /// Whether bytes wait that were accepted and are not delivered, or may wait for a limit.
    fn holds(&self) -> bool {
        let undelivered = |way: &Way| !way.done && (way.source_ended || !way.pending.is_empty());
        let held_up = !self.down.done && self.stream.is_held_up();
        self.flushing || held_up || undelivered(&self.up) || undelivered(&self.down)
    }

    /// While one direction is finished or the daemon ends: whether the rest has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let time = if self.draining { QUIET } else { TICK };
            let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(time)));
            ready!(tick.as_mut().poll(cx));
            self.tick = None;
            if self.up.done && (self.discard || self.socket.hung_up()) {
                // The client is gone and has been told nothing for a whole tick.
                return Poll::Ready(());
            }
            if self.down.done && self.stream.is_gone() {
                // The peer is gone, after its last byte. What the client sends reaches nobody.
                return Poll::Ready(());
            }
            let moved = std::mem::take(&mut self.moved);
            if self.draining && !moved && !self.holds() {
                return Poll::Ready(());
            }
            self.idle_ticks = if moved { 0 } else { self.idle_ticks + 1 };
            if !self.draining && self.idle_ticks >= LINGER_TICKS {
                return Poll::Ready(());
            }
        }
    }

    /// Notices that the daemon ends.
    fn watch_drain(&mut self, cx: &mut Context<'_>) {
        if self.draining {
            return;
        }
        if self.ending.is_none() {
            let ending = self.ending.insert(Box::pin(self.drain.begun_owned()));
            // Whether it has begun is seen below.
            let _ = ending.as_mut().poll(cx);
        }
        if self.drain.has_begun() {
            self.draining = true;
            self.moved = false;
            self.tick = None;
        }
    }

    fn poll_ways(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<End> {
        if !self.up.done {
            match self.poll_up(cx, scratch) {
                // After an error, what the remote sent before it reset is still delivered; the same
                // error then ends the other direction.
                Poll::Ready(ended) => {
                    self.failed |= ended.is_err();
                    self.up.done = true;
                }
                Poll::Pending => {}
            }
        }
        if !self.down.done {
            match self.poll_down(cx, scratch) {
                Poll::Ready(Ok(())) => self.down.done = true,
                Poll::Ready(Err(_)) => return Poll::Ready(End::Reset),
                Poll::Pending => {}
            }
        }
        if self.resetting && self.discard && (self.failed || self.socket.is_tcp()) {
            // The client has reset its connection. What it sent before on tcp went with that.
            return Poll::Ready(End::Left);
        }
        if self.up.done && self.down.done {
            let whole = !self.failed && !self.discard;
            return Poll::Ready(if whole { End::Whole } else { End::Left });
        }
        if self.up.done || self.down.done || self.discard || self.draining {
            return self.poll_linger(cx).map(|()| End::Left);
        }
        Poll::Pending
    }
}

impl<S: Stream> Future for Pipe<S> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        this.watch_drain(cx);
        let ended = ready!(with_scratch(|scratch| this.poll_ways(cx, scratch)));
        if this.resetting && ended == End::Whole {
            this.socket.set_abortive(false);
        }
        Poll::Ready(ended)
    }
}

#[cfg(test)]
mod tests;
