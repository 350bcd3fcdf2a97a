//! Frames on the stream of one call (COMPATIBILITY.md 4.21).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::io::{AsyncRead as _, AsyncWrite as _};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    streams::UserStream,
    wire::{
        frame::{self, FrameError},
        scratch::with_scratch,
    },
};

/// Why there is no whole frame.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The remote has finished before the first byte.
    Closed,
    /// The remote has finished within the frame.
    Cut,
    /// The announced length cannot be.
    Frame(FrameError),
    /// The stream failed.
    Io(io::Error),
}

/// The frame that arrives on a stream, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Arriving(BytesMut);

impl Arriving {
    /// Bytes that have come.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The frame, once it is whole.
    pub(super) fn take(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        frame::take(&mut self.0, max).map_err(ReadError::Frame)
    }

    /// Reads what is there.
    pub(super) fn poll_more(
        &mut self,
        stream: &mut UserStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let read = with_scratch(|scratch| match Pin::new(stream).poll_read(cx, scratch) {
            Poll::Ready(Ok(n)) => {
                self.0.extend_from_slice(&scratch[..n]);
                Poll::Ready(Ok(n))
            }
            other => other,
        });
        Poll::Ready(match ready!(read) {
            Ok(0) if self.0.is_empty() => Err(ReadError::Closed),
            Ok(0) => Err(ReadError::Cut),
            Ok(_) => Ok(()),
            Err(error) => Err(ReadError::Io(error)),
        })
    }
}

/// Sends `request`, holding `unsent` so long, and returns the one frame that comes back. It
/// may come early: a callee that refuses a call does not read it to its end.
pub(super) async fn exchange(
    stream: &mut UserStream,
    request: BytesMut,
    max: usize,
    unsent: OwnedSemaphorePermit,
) -> Result<Bytes, ReadError> {
    let mut arriving = Arriving::default();
    let mut request = Some((request, unsent));
    poll_fn(|cx| {
        if let Some((rest, _)) = &mut request {
            match poll_send(stream, rest, cx) {
                // What the remote has said before it stopped reading is still to be read.
                Poll::Ready(_) => request = None,
                Poll::Pending => {}
            }
        }
        loop {
            if let Some(frame) = arriving.take(max)? {
                return Poll::Ready(Ok(frame));
            }
            ready!(arriving.poll_more(stream, cx))?;
        }
    })
    .await
}

fn poll_send(
    stream: &mut UserStream,
    rest: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !rest.is_empty() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => rest.advance(n),
        }
    }
    Pin::new(stream).poll_flush(cx)
}
