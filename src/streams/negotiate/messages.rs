//! Messages of multistream-select on a stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::io::{AsyncRead as _, AsyncWriteExt as _};

use super::MAX_NAME;
use crate::{
    memory::Charge,
    muxer::Substream,
    wire::frame::{FrameReader, Source},
};

/// The first message of both sides, as it travels.
pub(super) const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";

/// The same, without its length and its newline.
const HEADER_NAME: &[u8] = b"/multistream/1.0.0";

/// Bytes read at once. What comes behind the last message stays in memory until it is read.
const CHUNK: usize = 512;

/// A stream whose protocol is being negotiated.
pub(super) struct Messages {
    pub(super) stream: Substream,
    reader: FrameReader,
}

impl Messages {
    /// What is received is charged by `charge`.
    pub(super) fn new(stream: Substream, charge: Option<Charge>) -> Self {
        let reader = FrameReader::new(MAX_NAME + 1, BytesMut::new()).chunked(CHUNK);
        Self {
            stream,
            reader: match charge {
                Some(charge) => reader.charged(charge),
                None => reader,
            },
        }
    }

    /// Reads one message, without its newline.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        let message = self.reader.next(&mut self.stream).await?;
        let mut message = message.ok_or(io::ErrorKind::UnexpectedEof)?;
        if message.last() != Some(&b'\n') {
            return Err(io::Error::other("multistream message without newline"));
        }
        message.truncate(message.len() - 1);
        Ok(message)
    }

    pub(super) async fn expect_header(&mut self) -> io::Result<()> {
        if self.next().await? == HEADER_NAME {
            Ok(())
        } else {
            Err(io::Error::other("not a multistream stream"))
        }
    }

    pub(super) async fn send(&mut self, messages: &[u8]) -> io::Result<()> {
        self.stream.write_all(messages).await?;
        self.stream.flush().await
    }

    /// What has been received behind the last message.
    pub(super) fn received(&self) -> &[u8] {
        self.reader.received()
    }

    /// The stream, and what has been received behind the last message.
    pub(super) fn into_parts(self) -> (Substream, (BytesMut, Option<Charge>)) {
        (self.stream, self.reader.into_parts())
    }
}

/// Appends a message.
pub(super) fn message(name: &[u8], out: &mut BytesMut) {
    let mut length = unsigned_varint::encode::usize_buffer();
    out.put_slice(unsigned_varint::encode::usize(name.len() + 1, &mut length));
    out.put_slice(name);
    out.put_u8(b'\n');
}

impl Source for Substream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_read(cx, buffer)
    }
}
