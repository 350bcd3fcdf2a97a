//! Connections on which a client is told things and says nothing more.

use std::{io, pin::pin, sync::Arc};

use futures::FutureExt as _;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{blocked, socket::Socket};
use crate::{
    memory::Account,
    wire::{
        frame::{FrameReader, ReadError},
        pb,
    },
};

/// Ends when the client does. Requests are read and ignored, as in Go.
async fn watch(mut socket: &Socket, reader: &mut FrameReader) -> io::Result<()> {
    loop {
        match reader.next(&mut socket).await {
            Ok(Some(request)) => drop(pb::Request::decode(request).map_err(io::Error::other)?),
            Ok(None) => return Ok(()),
            Err(ReadError::OverBudget(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs `telling` until the client at `socket` is gone or `closing` is cancelled.
///
/// # Errors
/// If the client can no longer be read from or written to.
pub(super) async fn tell(
    socket: &Socket,
    reader: &mut FrameReader,
    closing: &CancellationToken,
    telling: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    tokio::select! {
        biased;
        () = closing.cancelled() => Ok(()),
        ended = watch(socket, reader) => ended,
        ended = telling => ended,
    }
}

/// Who is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listener<'a> {
    pub(super) socket: &'a Socket,
    pub(super) account: &'a Arc<Account>,
}

impl Listener<'_> {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// I/O; see [`blocked::charged`].
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut writing = pin!(self.socket.write_whole(bytes));
        match writing.as_mut().now_or_never() {
            Some(written) => written,
            None => blocked::charged(self.account, self.socket.send_buffer(), writing).await,
        }
    }
}
