//! Streams that carry messages.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures::AsyncWriteExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{decode::decode, pb::Message};
use crate::{
    memory::{Account, Charge, OverBudget},
    streams::UserStream,
    wire::frame::{FrameError, FrameReader, ReadError},
};

/// Largest message, in bytes (go-libp2p's limit).
const MAX_MESSAGE: usize = 4 << 20;

/// Messages above 64 KiB read at once, of all peers together (SECURITY.md 3).
const MAX_LARGE: usize = 16;

/// Messages larger than this many bytes wait for a permit.
const LARGE: u64 = 64 << 10;

/// Time for one of them to arrive, so that nobody holds its permit for ever.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

static LARGE_PERMITS: Semaphore = Semaphore::const_new(MAX_LARGE);

/// A stream that carries messages. What has arrived of a message is charged to the peer for as
/// long as it is held; an idle stream holds nothing.
#[derive(Debug)]
pub(in super::super) struct Channel {
    stream: UserStream,
    reader: FrameReader,
    account: Arc<Account>,
    /// For the message that is being read, or was read last.
    charge: Option<Charge>,
    /// The same, if it is a large one.
    permit: Option<SemaphorePermit<'static>>,
}

impl Channel {
    /// A stream with the peer whose account this is.
    pub(in super::super) fn new(stream: UserStream, account: Arc<Account>) -> Self {
        Self {
            stream,
            reader: FrameReader::new(MAX_MESSAGE, BytesMut::new()),
            account,
            charge: None,
            permit: None,
        }
    }

    /// Sends an encoded message.
    pub(in super::super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await
    }

    /// The next message, with `max_providers` providers at most; `None` once the remote has
    /// finished. It is charged until [`Channel::release`] or the next call.
    ///
    /// # Errors
    /// I/O, bytes that are no message, or a peer that holds too much already.
    pub(in super::super) async fn receive(
        &mut self,
        max_providers: usize,
    ) -> io::Result<Option<Message>> {
        self.release();
        loop {
            if let Some(payload) = self.reader.take().map_err(ReadError::from)? {
                let message = decode(payload, max_providers).map_err(io::Error::other)?;
                return Ok(Some(message));
            }
            let announced = self.reader.announced();
            if announced > LARGE && self.permit.is_none() {
                let permit = LARGE_PERMITS.acquire().await.map_err(io::Error::other)?;
                self.permit = Some(permit);
                self.reader.limit(LARGE_TIMEOUT);
            }
            match self.reader.fill(&mut self.stream).await {
                Ok(()) => {}
                Err(ReadError::Closed) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            self.reserve(self.reader.received().len())?;
        }
    }

    /// The message received last is no longer held.
    pub(in super::super) fn release(&mut self) {
        self.permit = None;
        // What has arrived after it stays charged.
        match self.reader.received().len() {
            0 => self.charge = None,
            bytes => {
                if let Some(charge) = &mut self.charge {
                    let fewer = bytes.min(usize::try_from(charge.bytes()).unwrap_or(bytes));
                    // Less always has room.
                    let _ = charge.resize(fewer);
                }
            }
        }
    }

    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        let reserved = match &mut self.charge {
            Some(charge) => charge.resize(bytes),
            None => self
                .account
                .charge(bytes)
                .map(|charge| self.charge = Some(charge)),
        };
        reserved.map_err(io::Error::other)
    }

    /// Finishes the sending side.
    pub(in super::super) async fn close(mut self) {
        // The remote may have gone before.
        let _ = self.stream.close().await;
    }
}

/// Whether reading failed because of a limit of this daemon, which is no fault of the peer: the
/// answer was too large, or no memory was left for it.
pub(in super::super) fn is_own_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        inner.is::<OverBudget>()
            || matches!(
                inner.downcast_ref::<FrameError>(),
                Some(FrameError::TooLarge { .. })
            )
    })
}
