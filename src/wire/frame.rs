//! Varint-delimited frames: an unsigned LEB128 length, then that many bytes.

mod reader;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

pub use reader::{FrameReader, ReadError, Source};

/// Largest control frame unless configured otherwise (COMPATIBILITY.md 3.1): 4 MiB of payload.
pub const DEFAULT_MAX_FRAME: usize = 4 << 20;

/// Why the bytes at hand are not the start of a frame. The connection is beyond repair:
/// the next frame boundary is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length does not fit 64 bits or is not in its shortest form.
    #[error("malformed frame length")]
    BadLength,
    /// The announced payload is larger than the limit.
    #[error("frame of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Announced payload length in bytes.
        len: u64,
        /// The limit in bytes.
        max: usize,
    },
}

/// Takes the first complete frame off `buf`.
///
/// `Ok(None)` means more bytes are needed; `buf` is then untouched and has grown only by
/// what was received, never by what was announced.
///
/// # Errors
/// See [`FrameError`]; `buf` is left as it was.
pub fn take(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let (len, rest) = match unsigned_varint::decode::u64(buf) {
        Ok(decoded) => decoded,
        Err(unsigned_varint::decode::Error::Insufficient) => return Ok(None),
        Err(_) => return Err(FrameError::BadLength),
    };
    let header = buf.len() - rest.len();
    // The library takes ten bytes whatever the tenth holds, and drops what is above 64 bits.
    let mut shortest = unsigned_varint::encode::u64_buffer();
    if unsigned_varint::encode::u64(len, &mut shortest).len() != header {
        return Err(FrameError::BadLength);
    }
    let available = rest.len();
    let size = usize::try_from(len)
        .ok()
        .filter(|size| *size <= max)
        .ok_or(FrameError::TooLarge { len, max })?;
    if available < size {
        return Ok(None);
    }
    buf.advance(header);
    Ok(Some(buf.split_to(size).freeze()))
}

/// Appends `payload` as one frame.
pub fn put(payload: &[u8], out: &mut BytesMut) {
    let mut header = unsigned_varint::encode::u64_buffer();
    out.put_slice(unsigned_varint::encode::u64(
        payload.len() as u64,
        &mut header,
    ));
    out.put_slice(payload);
}

/// Encodes `message` as one frame.
pub fn encode(message: &impl Message) -> Bytes {
    message.encode_length_delimited_to_vec().into()
}
