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
use crate::wire::scratch::with_scratch;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

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
#[derive(Debug)]
pub struct FrameReader {
    input: BytesMut,
    max: usize,
    time: Option<Duration>,
    /// Runs while a frame is incomplete.
    timer: Option<Pin<Box<Sleep>>>,
}

impl FrameReader {
    /// Reads frames of at most `max` bytes of payload. `received` is what has been read already.
    #[must_use]
    pub fn new(max: usize, received: BytesMut) -> Self {
        Self {
            input: received,
            max,
            time: None,
            timer: None,
        }
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

    /// The next frame, if it has arrived.
    ///
    /// # Errors
    /// If the bytes at hand are not the beginning of a frame; see [`take`].
    pub fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let frame = take(&mut self.input, self.max)?;
        if frame.is_some() {
            self.timer = None;
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
        }
        Ok(frame)
    }

    /// Waits until more bytes have arrived.
    ///
    /// # Errors
    /// Any [`ReadError`] but [`ReadError::Frame`].
    pub fn poll_fill(
        &mut self,
        source: &mut impl Source,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let read = with_scratch(|scratch| {
            let chunk = scratch.len().min(CHUNK);
            let read = ready!(source.poll_read(cx, &mut scratch[..chunk]));
            if let Ok(n) = read {
                self.input.extend_from_slice(&scratch[..n]);
            }
            Poll::Ready(read)
        });
        match read {
            Poll::Ready(Ok(0)) if self.input.is_empty() => Poll::Ready(Err(ReadError::Closed)),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ReadError::Cut)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => self.poll_timer(cx).map(|()| Err(ReadError::TimedOut)),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            match self.time {
                Some(time) if !self.input.is_empty() => self.limit(time),
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
