//! Frames read from a stream of a protocol of the daemon's own, within bounds of memory.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::AsyncReadExt as _;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::UserStream;
use crate::wire::frame;

/// Frames larger than this many bytes wait for a place.
const LARGE: u64 = 64 << 10;

/// Time for one of them to arrive, so that nobody holds its place for ever.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes asked of a stream at once, at first.
const MIN_CHUNK: usize = 4 << 10;

/// The same, of a stream that has always as much.
const MAX_CHUNK: usize = 64 << 10;

/// A frame's payload, and its place among the large ones until dropped.
#[derive(Debug)]
pub struct Frame {
    /// The payload.
    pub payload: Bytes,
    _place: Option<SemaphorePermit<'static>>,
}

/// Reads the frames of one stream. A silent stream costs no buffer.
#[derive(Debug)]
pub struct Frames {
    input: BytesMut,
    chunk: usize,
    max: usize,
    places: &'static Semaphore,
}

impl Frames {
    /// Frames of `max` bytes of payload at most; those above 64 KiB are read when there is one
    /// of the `places`, and within 10 s from then on.
    #[must_use]
    pub fn new(max: usize, places: &'static Semaphore) -> Self {
        Self {
            input: BytesMut::new(),
            chunk: MIN_CHUNK,
            max,
            places,
        }
    }

    /// Whether a whole frame is there already.
    #[must_use]
    pub fn has_next(&self) -> bool {
        unsigned_varint::decode::u64(&self.input)
            .is_ok_and(|(length, rest)| rest.len() as u64 >= length)
    }

    /// The next frame; `None` once the remote has finished.
    ///
    /// # Errors
    /// I/O, an end in the middle of a frame, or a frame that is none.
    pub async fn next(&mut self, stream: &mut UserStream) -> io::Result<Option<Frame>> {
        let mut place: Option<(SemaphorePermit<'static>, Instant)> = None;
        loop {
            let taken = frame::take(&mut self.input, self.max).map_err(io::Error::other)?;
            if let Some(payload) = taken {
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                return Ok(Some(Frame {
                    payload,
                    _place: place.map(|(place, _)| place),
                }));
            }
            let announced = announced(&self.input);
            if place.is_none() && announced > LARGE {
                let permit = self.places.acquire().await.map_err(io::Error::other)?;
                place = Some((permit, Instant::now() + LARGE_TIMEOUT));
            }
            let end = self.input.len();
            self.input.resize(end + self.chunk, 0);
            let reading = stream.read(&mut self.input[end..]);
            let read = match &place {
                Some((_, deadline)) => timeout_at(*deadline, reading)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                None => reading.await,
            };
            let filled = read.as_ref().copied().unwrap_or(0);
            self.input.truncate(end + filled);
            self.chunk = if filled == self.chunk {
                (2 * self.chunk).min(MAX_CHUNK)
            } else {
                self.chunk.min(2 * filled).max(MIN_CHUNK)
            };
            match read? {
                0 if end == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }
}

/// The length that an incomplete frame announces, as far as it is known.
fn announced(input: &[u8]) -> u64 {
    unsigned_varint::decode::u64(input).map_or(0, |(length, _)| length)
}
