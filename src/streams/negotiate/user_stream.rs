//! Streams of user protocols.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::io::{AsyncRead, AsyncWrite};

use crate::{memory::Charge, muxer::Substream, streams::traffic::Tap, wire::frame::Source};

/// A stream whose protocol is agreed on, or proposed to a remote known to speak it.
///
/// Closing finishes the sending side; dropping without closing resets.
#[derive(Debug)]
pub struct UserStream {
    io: Substream,
    /// Received but not yet read.
    buffer: BytesMut,
    /// For the memory behind that, while it lasts.
    charge: Option<Charge>,
    /// What the remote must still answer before its first byte of payload.
    expected: Option<Bytes>,
    /// Counts the payload, and holds it up where that is limited.
    tap: Option<Box<Tap>>,
}

impl UserStream {
    /// A stream of which `received` has been read already.
    pub(super) fn new(io: Substream, received: (BytesMut, Option<Charge>)) -> Self {
        let (buffer, charge) = received;
        Self {
            io,
            charge: charge.filter(|_| !buffer.is_empty()),
            buffer,
            expected: None,
            tap: None,
        }
    }

    /// A stream on which the remote must answer `expected` first.
    pub(super) fn expecting(io: Substream, expected: Bytes) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            charge: None,
            expected: Some(expected),
            tap: None,
        }
    }

    /// `tap` counts the payload from now on.
    pub(in super::super) fn set_tap(&mut self, tap: Box<Tap>) {
        self.tap = Some(tap);
    }

    /// See [`Substream::close_only`].
    #[must_use]
    pub fn close_only(mut self) -> Self {
        self.io = self.io.close_only();
        self
    }

    /// See [`Substream::set_background`].
    pub(in super::super) fn set_background(&mut self) {
        self.io.set_background();
    }

    /// See [`Substream::blocked`].
    pub fn blocked(&mut self, bytes: usize) {
        self.io.blocked(bytes);
    }

    /// See [`Substream::is_gone`].
    pub fn is_gone(&self) -> bool {
        self.io.is_gone()
    }

    /// Whether what may have arrived waits for a limit.
    pub fn is_held_up(&self) -> bool {
        self.tap
            .as_ref()
            .is_some_and(|tap| tap.is_receive_held_up())
    }

    fn poll_expected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(expected) = &self.expected {
            let n = expected.len().min(self.buffer.len());
            if self.buffer[..n] != expected[..n] {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "protocol refused by the remote",
                )));
            }
            if n == expected.len() {
                self.buffer.advance(n);
                self.expected = None;
                break;
            }
            let mut chunk = [0; 512];
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn moved(polled: &Poll<io::Result<usize>>) -> usize {
    match polled {
        Poll::Ready(Ok(bytes)) => *bytes,
        Poll::Ready(Err(_)) | Poll::Pending => 0,
    }
}

impl AsyncRead for UserStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let max = match &mut self.tap {
            Some(tap) => ready!(tap.poll_receive(cx)).min(buf.len()),
            None => buf.len(),
        };
        let read = self.poll_payload(cx, &mut buf[..max]);
        if let Some(tap) = &mut self.tap {
            tap.received(moved(&read));
        }
        read
    }
}

impl UserStream {
    fn poll_payload(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.expected.is_some() {
            ready!(self.poll_expected(cx))?;
        }
        if !self.buffer.is_empty() {
            let n = self.buffer.len().min(buf.len());
            buf[..n].copy_from_slice(&self.buffer[..n]);
            self.buffer.advance(n);
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
                self.charge = None;
            }
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Source for UserStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(self), cx, buffer)
    }
}

impl AsyncWrite for UserStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let max = match &mut self.tap {
            Some(tap) => ready!(tap.poll_send(cx)).min(buf.len()),
            None => buf.len(),
        };
        let written = Pin::new(&mut self.io).poll_write(cx, &buf[..max]);
        if let Some(tap) = &mut self.tap {
            tap.sent(moved(&written));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
