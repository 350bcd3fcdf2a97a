//! Messages read from a stream of a service: charged to the peer, and few large ones at once.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::UserStream;
use crate::{
    memory::Charge,
    wire::frame::{FrameError, FrameReader, ReadError},
};

/// Messages larger than this many bytes wait for a permit.
const LARGE: u64 = 64 << 10;

/// Time for one of them to arrive, so that nobody holds its permit for ever.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no further message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// The stream failed, or its bytes are no message.
    #[error("failed to read a message")]
    Read(#[from] ReadError),
}

impl MessageError {
    /// Whether it is because of a limit of this daemon, and no fault of the peer: the message was
    /// too large, or no memory was left for it.
    pub(crate) fn is_own_limit(&self) -> bool {
        matches!(
            self,
            Self::Read(ReadError::OverBudget(_) | ReadError::Frame(FrameError::TooLarge { .. }))
        )
    }

    /// Whether the bytes cannot be a message.
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self, Self::Read(ReadError::Frame(error))
            if !matches!(error, FrameError::TooLarge { .. }))
    }

    /// Whether the stream ended or failed, whatever was on it.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Read(ReadError::Closed | ReadError::Cut | ReadError::Io(_))
        )
    }
}

/// Reads the messages of one stream. What has arrived is charged for as long as it is held, and a
/// silent stream holds no buffer.
#[derive(Debug)]
pub(crate) struct MessageReader {
    reader: FrameReader,
    /// What messages above 64 KiB wait for, those of all peers together.
    permits: &'static Semaphore,
    permit: Option<SemaphorePermit<'static>>,
}

impl MessageReader {
    /// Reads messages of at most `max` bytes, and charges them by `charge`.
    pub(crate) fn new(max: usize, charge: Charge, permits: &'static Semaphore) -> Self {
        Self {
            reader: FrameReader::new(max, BytesMut::new()).charged(charge),
            permits,
            permit: None,
        }
    }

    /// Whether a whole message is there already.
    pub(crate) fn has_next(&self) -> bool {
        self.reader.has_next()
    }

    /// Whether the message at hand is a large one that waits until others have been read.
    pub(crate) fn waits_for_others(&self) -> bool {
        self.reader.announced() > LARGE && self.permit.is_none()
    }

    /// The next message; `None` once the peer has finished. It is charged until
    /// [`MessageReader::release`] or the next call.
    ///
    /// # Errors
    /// See [`MessageError`]. An end within a message is one.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub(crate) async fn next(
        &mut self,
        stream: &mut UserStream,
    ) -> Result<Option<Bytes>, MessageError> {
        self.release();
        loop {
            if let Some(message) = self.reader.take().map_err(ReadError::from)? {
                return Ok(Some(message));
            }
            if self.waits_for_others() {
                // An error would mean that the permits are closed, which nobody does.
                self.permit = self.permits.acquire().await.ok();
                self.reader.limit(LARGE_TIMEOUT);
            }
            match self.reader.fill(stream).await {
                Ok(()) => {}
                Err(ReadError::Closed) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The message read last is no longer held. What has arrived after it stays charged.
    pub(crate) fn release(&mut self) {
        self.permit = None;
        self.reader.release();
    }
}
