//! Frames read from a byte stream, within bounds of memory and time.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};

use super::{FrameError, take};
use crate::{
    limit_hits::Limit,
    memory::{Charge, OverBudget, received},
    wire::scratch::with_scratch,
};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Bytes read at once where there is no room for more, in the order in which they are tried.
const CHUNKS: [usize; 4] = [CHUNK, 4096, 512, 32];

/// Bytes read at once from a source that sends little, while that is charged. They have room in what
/// each client has for itself (SECURITY.md 3), so that no account is touched that others have a
/// part in.
const SMALL_CHUNK: usize = 1024;

/// The length of a frame has room always, in bytes.
const LENGTH: usize = 10;

/// Bytes of a frame that were received before there was no room, kept so that it can be named.
const KEPT: usize = 64;

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source ended between two frames.
    #[error("end of stream")]
    Closed,
    /// The source ended within a frame.
    #[error("end of stream within a frame")]
    Cut,
    /// The frame has begun and did not arrive in time.
    #[error("timeout while reading a frame")]
    TimedOut,
    /// The bytes cannot be a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// There is no room for the frame. What is left of it is thrown away; the frames after it are
    /// read as if nothing had been.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The source failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed | ReadError::Cut => {
                Self::new(io::ErrorKind::UnexpectedEof, error.to_string())
            }
            ReadError::TimedOut => Self::new(io::ErrorKind::TimedOut, error.to_string()),
            ReadError::OverBudget(error) => Self::new(io::ErrorKind::OutOfMemory, error),
            ReadError::Frame(error) => Self::new(io::ErrorKind::InvalidData, error),
            ReadError::Io(error) => error,
        }
    }
}

/// A byte stream that frames are read from.
pub trait Source {
    /// Reads into `buffer`; 0 bytes are the end.
    ///
    /// # Errors
    /// If the stream has failed.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
}

impl<T: AsyncRead + Unpin> Source for T {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// Reads the frames of one source. While nothing of a frame has arrived it holds no buffer.
///
/// [`FrameReader::next`] is all that most readers need. Those with something to do between the
/// frames call [`FrameReader::take`] until it returns `None`, then [`FrameReader::fill`].
///
/// What it holds is charged before it is allocated, if [`FrameReader::charged`] has said to whom. A
/// frame stays charged until the next call of `take`, `fill` or `next`. The caller must not hold it
/// longer, or charge it anew.
#[derive(Debug)]
pub struct FrameReader {
    input: BytesMut,
    max: usize,
    chunk: usize,
    charge: Option<Charge>,
    /// The first bytes of a frame that have room always.
    minimum: usize,
    /// Bytes of the memory that `input`, and frames taken from it, are parts of.
    allocated: usize,
    /// The last read filled what there was for it.
    flows: bool,
    /// Bytes of a refused frame that are still to come.
    refused: u64,
    /// How that frame began.
    refused_head: Bytes,
    time: Option<Duration>,
    /// Runs while a frame is incomplete.
    timer: Option<Pin<Box<Sleep>>>,
}

impl FrameReader {
    /// Reads frames of at most `max` bytes of payload. `received` is what has been read already.
    #[must_use]
    pub fn new(max: usize, received: BytesMut) -> Self {
        Self {
            allocated: received.capacity(),
            input: received,
            max,
            chunk: CHUNK,
            charge: None,
            minimum: LENGTH,
            flows: false,
            refused: 0,
            refused_head: Bytes::new(),
            time: None,
            timer: None,
        }
    }

    /// Reads so many bytes at once at the most.
    #[must_use]
    pub fn chunked(mut self, bytes: usize) -> Self {
        self.chunk = bytes.clamp(1, CHUNK);
        self
    }

    /// Charges what is held by `charge`, which has nothing in it yet.
    #[must_use]
    pub fn charged(mut self, charge: Charge) -> Self {
        self.charge = Some(charge);
        self
    }

    /// Takes frames that need no more than `bytes` even where there is no room. The caller bounds how
    /// many readers there are.
    #[must_use]
    pub fn always(mut self, bytes: usize) -> Self {
        self.minimum = bytes.max(LENGTH);
        self
    }

    /// Gives each frame `time` to arrive, counted from the first [`FrameReader::fill`] after its
    /// first byte. Between frames the source may be silent for ever.
    #[must_use]
    pub fn timed(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// What has arrived and is not taken.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.input
    }

    /// What has arrived and is not taken, for whoever reads the source from now on.
    #[must_use]
    pub fn into_received(self) -> BytesMut {
        self.input
    }

    /// The same, with what it is charged by.
    #[must_use]
    pub fn into_parts(mut self) -> (BytesMut, Option<Charge>) {
        self.release();
        (self.input, self.charge)
    }

    /// The payload length that the frame at hand announces, in bytes; 0 while that is unknown.
    #[must_use]
    pub fn announced(&self) -> u64 {
        unsigned_varint::decode::u64(&self.input).map_or(0, |(length, _)| length)
    }

    /// Whether a whole frame has arrived.
    #[must_use]
    pub fn has_next(&self) -> bool {
        unsigned_varint::decode::u64(&self.input)
            .is_ok_and(|(length, rest)| rest.len() as u64 >= length)
    }

    /// Gives the frame at hand `time` from now on, whatever it had before.
    pub fn limit(&mut self, time: Duration) {
        self.timer = Some(Box::pin(sleep(time)));
    }

    /// The beginning of the payload of the frame that there was no room for, as far as it had come.
    #[must_use]
    pub fn refused_payload(&self) -> &[u8] {
        match unsigned_varint::decode::u64(&self.refused_head) {
            Ok((_, payload)) => payload,
            Err(_) => &[],
        }
    }

    /// The next frame, if it has arrived.
    ///
    /// # Errors
    /// If the bytes at hand are not the beginning of a frame; see [`take`].
    pub fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.release();
        let frame = take(&mut self.input, self.max)?;
        if frame.is_some() {
            self.timer = None;
            if self.input.is_empty() {
                // The memory is the frame's alone from now on.
                self.input = BytesMut::new();
            }
        }
        Ok(frame)
    }

    /// The frame taken last is no longer held. The next `take`, `fill` or `next` says so as well.
    pub fn release(&mut self) {
        if self.input.capacity() == 0 && self.allocated > 0 {
            self.allocated = 0;
            if let Some(charge) = &mut self.charge {
                charge.shrink(0);
            }
        }
    }

    /// Waits until more bytes have arrived. [`FrameReader::take`] must have said before that no
    /// frame is there.
    ///
    /// # Errors
    /// Any [`ReadError`] but [`ReadError::Frame`].
    pub fn poll_fill(
        &mut self,
        source: &mut impl Source,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ReadError>> {
        self.release();
        let chunk = self.reserve()?;
        let read = with_scratch(|scratch| {
            let chunk = scratch.len().min(chunk);
            let read = ready!(source.poll_read(cx, &mut scratch[..chunk]));
            if let Ok(n) = read {
                self.flows = n == chunk || self.flows && n >= SMALL_CHUNK;
                self.hold(&scratch[..n]);
            }
            Poll::Ready(read)
        });
        if let Some(charge) = &mut self.charge {
            charge.shrink(self.allocated);
        }
        match read {
            Poll::Ready(Ok(0)) if self.input.is_empty() && self.refused == 0 => {
                Poll::Ready(Err(ReadError::Closed))
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ReadError::Cut)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => self.poll_timer(cx).map(|()| Err(ReadError::TimedOut)),
        }
    }

    /// Makes room for bytes to be read; how many.
    fn reserve(&mut self) -> Result<usize, ReadError> {
        if self.refused > 0 {
            return Ok(usize::try_from(self.refused).map_or(CHUNK, |left| left.min(CHUNK)));
        }
        let Some(mut charge) = self.charge.take() else {
            return Ok(self.chunk);
        };
        let most = match self.flows || self.input.len() >= SMALL_CHUNK {
            true => self.chunk,
            false => self.chunk.min(SMALL_CHUNK.max(self.missing())),
        };
        let smaller = CHUNKS.into_iter().filter(|chunk| *chunk < most);
        let room = std::iter::once(most)
            .chain(smaller)
            .find(|chunk| charge.try_resize_briefly(self.needed(*chunk)).is_ok());
        self.charge = Some(charge);
        match room {
            Some(chunk) => Ok(chunk),
            None if self.input.len() < self.minimum => Ok(self.minimum - self.input.len()),
            None => {
                Limit::MemoryCharged.hit();
                self.refuse();
                Err(OverBudget.into())
            }
        }
    }

    /// Bytes that the frame at hand is known to lack.
    fn missing(&self) -> usize {
        let Ok((length, payload)) = unsigned_varint::decode::u64(&self.input) else {
            return 0;
        };
        let missing = length.saturating_sub(payload.len() as u64);
        usize::try_from(missing).unwrap_or(usize::MAX)
    }

    /// Gives up the frame at hand.
    fn refuse(&mut self) {
        let Ok((length, payload)) = unsigned_varint::decode::u64(&self.input) else {
            return;
        };
        self.refused = length.saturating_sub(payload.len() as u64);
        let head = self.input.len().min(KEPT);
        self.refused_head = Bytes::copy_from_slice(&self.input[..head]);
        self.input = BytesMut::new();
        self.release();
    }

    /// Bytes of memory that are needed for `more` bytes of input. Memory grows by doubling, up to
    /// what the frame at hand needs, so that a frame that comes in small pieces is not copied as
    /// often.
    fn needed(&self, more: usize) -> usize {
        let needed = self.input.len() + more;
        if needed <= self.input.capacity() {
            return self.allocated;
        }
        let frame = match unsigned_varint::decode::u64(&self.input) {
            Ok((length, payload)) => {
                let header = self.input.len() - payload.len();
                usize::try_from(length).map_or(usize::MAX, |length| length.saturating_add(header))
            }
            Err(_) => 0,
        };
        needed.max(self.input.capacity().saturating_mul(2).min(frame))
    }

    /// Keeps what was read, for which there is room.
    fn hold(&mut self, read: &[u8]) {
        if self.refused > 0 {
            self.refused -= read.len() as u64;
            if self.refused == 0 {
                self.timer = None;
            }
            return;
        }
        let needed = self.needed(read.len());
        if self.input.len() + read.len() > self.input.capacity() {
            let mut grown = BytesMut::with_capacity(needed);
            grown.extend_from_slice(&self.input);
            self.input = grown;
            if self.charge.is_some() {
                received(needed.saturating_sub(self.allocated));
            }
            self.allocated = needed;
        }
        self.input.extend_from_slice(read);
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            match self.time {
                Some(time) if !self.input.is_empty() || self.refused > 0 => self.limit(time),
                _ => return Poll::Pending,
            }
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// As [`FrameReader::poll_fill`].
    ///
    /// # Errors
    /// Any [`ReadError`] but [`ReadError::Frame`].
    ///
    /// # Cancel safety
    /// No byte is lost, and the time goes on.
    pub async fn fill(&mut self, source: &mut impl Source) -> Result<(), ReadError> {
        poll_fn(|cx| self.poll_fill(source, cx)).await
    }

    /// The next frame; `None` once the source has ended between two frames.
    ///
    /// # Errors
    /// Any [`ReadError`] but [`ReadError::Closed`].
    ///
    /// # Cancel safety
    /// No byte is lost, and the time goes on.
    pub async fn next(&mut self, source: &mut impl Source) -> Result<Option<Bytes>, ReadError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            match self.fill(source).await {
                Ok(()) => {}
                Err(ReadError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
