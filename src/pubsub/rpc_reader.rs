//! RPCs read from the stream that a peer writes.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::message::MAX_RPC;
use crate::{
    memory::Charge,
    streams::UserStream,
    wire::frame::{FrameReader, ReadError},
};

/// RPCs above 64 KiB that are read at once, of all peers together (SECURITY.md 3).
const MAX_LARGE: usize = 64;

/// RPCs larger than this many bytes wait for a permit.
const LARGE: u64 = 64 << 10;

/// Time for one of them to arrive, so that nobody holds its permit for ever.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

static LARGE_PERMITS: Semaphore = Semaphore::const_new(MAX_LARGE);

/// Reads the RPCs of one stream. What has arrived is charged to the peer for as long as it is held.
/// A silent stream holds no buffer.
#[derive(Debug)]
pub(super) struct RpcReader {
    reader: FrameReader,
    /// For the RPC that is being read, or was read last.
    charge: Charge,
    /// The same, if it is a large one.
    permit: Option<SemaphorePermit<'static>>,
}

impl RpcReader {
    /// A reader that charges by `charge`.
    pub(super) fn new(charge: Charge) -> Self {
        Self {
            reader: FrameReader::new(MAX_RPC, BytesMut::new()),
            charge,
            permit: None,
        }
    }

    /// Whether a whole RPC is there already.
    pub(super) fn has_next(&self) -> bool {
        self.reader.has_next()
    }

    /// The next RPC; `None` once the peer has finished. The one before must no longer be held.
    ///
    /// # Errors
    /// I/O, an end within an RPC, a length that is too large, or a peer that holds too much already.
    pub(super) async fn next(&mut self, stream: &mut UserStream) -> io::Result<Option<Bytes>> {
        self.permit = None;
        self.reserve()?;
        loop {
            if let Some(rpc) = self.reader.take().map_err(ReadError::from)? {
                return Ok(Some(rpc));
            }
            if self.reader.announced() > LARGE && self.permit.is_none() {
                let permit = LARGE_PERMITS.acquire().await.map_err(io::Error::other)?;
                self.permit = Some(permit);
                self.reader.limit(LARGE_TIMEOUT);
            }
            match self.reader.fill(stream).await {
                Ok(()) => self.reserve()?,
                Err(ReadError::Closed) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Charges what has arrived.
    fn reserve(&mut self) -> io::Result<()> {
        let received = self.reader.received().len();
        self.charge.resize(received).map_err(io::Error::other)
    }
}
