//! A call and its answer on one stream (COMPATIBILITY.md 4.21).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::io::AsyncWrite as _;

use super::CALL;
use crate::{
    memory::Charge,
    streams::UserStream,
    wire::frame::{FrameReader, ReadError},
};

/// Sends `request`, which `charge` counts so long, and returns the one frame that comes back. It
/// may come early: a callee that refuses a call does not read it to its end.
pub(super) async fn exchange(
    stream: &mut UserStream,
    request: BytesMut,
    mut reader: FrameReader,
    mut charge: Charge,
) -> Result<Bytes, ReadError> {
    let mut request = Some(request);
    poll_fn(|cx| {
        if let Some(rest) = &mut request {
            match poll_send(stream, rest, cx) {
                // What the remote has said before it stopped reading is still to be read.
                Poll::Ready(_) => {
                    request = None;
                    charge.shrink(CALL);
                }
                Poll::Pending => {}
            }
        }
        loop {
            if let Some(frame) = reader.take()? {
                return Poll::Ready(Ok(frame));
            }
            ready!(reader.poll_fill(stream, cx))?;
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
