//! Multihashes as Go reads them, with its error texts: peer ids, CIDs and record keys.

use unsigned_varint::decode;

/// The code of a multihash that holds the content itself.
pub const IDENTITY: u64 = 0x00;

/// Longest digest of Go's reader, in bytes.
const MAX_DIGEST: u64 = i32::MAX as u64;

/// Most bytes in a varint of Go's reader: 63 bits.
const MAX_VARINT: usize = 9;

/// Why bytes are no multihash, in Go's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultihashError {
    /// Not even a code and a length.
    #[error("multihash too short. must be >= 2 bytes")]
    TooShort,
    /// A varint that does not end.
    #[error("varints malformed, could not reach the end")]
    CutVarint,
    /// A varint of 64 bits or more.
    #[error("varints larger than uint63 not supported")]
    LargeVarint,
    /// A varint that is not in its shortest form.
    #[error("varint not minimally encoded")]
    LongVarint,
    /// The announced digest is beyond every limit.
    #[error("digest too long, supporting only <= 2^31-1")]
    LongDigest,
    /// Fewer bytes than announced.
    #[error("length greater than remaining number of bytes in buffer")]
    Cut,
    /// More bytes than announced.
    #[error("multihash length inconsistent: expected {digest}; got {used}")]
    Length {
        /// Bytes of the digest.
        digest: usize,
        /// Bytes of the multihash, header included, as Go counts them.
        used: usize,
    },
}

/// A multihash in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multihash<'a> {
    /// The hash function.
    pub code: u64,
    /// Its output.
    pub digest: &'a [u8],
}

/// Reads `bytes` as one multihash.
///
/// # Errors
/// See [`MultihashError`].
pub fn decode(bytes: &[u8]) -> Result<Multihash<'_>, MultihashError> {
    let (multihash, rest) = take(bytes)?;
    if !rest.is_empty() {
        return Err(MultihashError::Length {
            digest: multihash.digest.len(),
            used: bytes.len() - rest.len(),
        });
    }
    Ok(multihash)
}

/// Reads the multihash that `bytes` starts with; returns it and what follows.
///
/// # Errors
/// See [`MultihashError`].
pub(super) fn take(bytes: &[u8]) -> Result<(Multihash<'_>, &[u8]), MultihashError> {
    if bytes.len() < 2 {
        return Err(MultihashError::TooShort);
    }
    let (code, rest) = varint(bytes)?;
    let (len, rest) = varint(rest)?;
    if len > MAX_DIGEST {
        return Err(MultihashError::LongDigest);
    }
    let digest = usize::try_from(len).ok().and_then(|len| rest.get(..len));
    let digest = digest.ok_or(MultihashError::Cut)?;
    Ok((Multihash { code, digest }, &rest[digest.len()..]))
}

/// Reads the varint that `bytes` starts with; returns it and what follows.
pub(super) fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), MultihashError> {
    let head = &bytes[..bytes.len().min(MAX_VARINT)];
    match decode::u64(head) {
        Ok((value, rest)) => Ok((value, &bytes[head.len() - rest.len()..])),
        Err(decode::Error::NotMinimal) => Err(MultihashError::LongVarint),
        Err(decode::Error::Insufficient) if head.len() < MAX_VARINT => {
            Err(MultihashError::CutVarint)
        }
        Err(_) => Err(MultihashError::LargeVarint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The right-hand sides were printed by go-multihash 0.2.3.
    #[test]
    fn refusals_are_worded_as_in_go() {
        let refused = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        for short in [&b""[..], b"\x12"] {
            assert_eq!(refused(short), "multihash too short. must be >= 2 bytes");
        }
        assert_eq!(
            refused(b"\x12\x20"),
            "length greater than remaining number of bytes in buffer"
        );
        let mut long = vec![0x12, 32];
        long.resize(35, 0);
        assert_eq!(
            refused(&long),
            "multihash length inconsistent: expected 32; got 34"
        );
        assert_eq!(
            refused(b"\x80\x80\x80"),
            "varints malformed, could not reach the end"
        );
        assert_eq!(refused(b"\x80\x00"), "varint not minimally encoded");
        assert_eq!(
            refused(&[0xff; 10]),
            "varints larger than uint63 not supported"
        );
        assert_eq!(
            refused(b"\x12\xff\xff\xff\xff\x7f"),
            "digest too long, supporting only <= 2^31-1"
        );
    }

    #[test]
    fn any_hash_of_any_length_is_read() {
        let empty = decode(b"\x00\x00").unwrap();
        assert_eq!((empty.code, empty.digest), (IDENTITY, &b""[..]));
        let mut long = vec![0x13, 0x80, 0x01];
        long.resize(3 + 128, 7);
        assert_eq!(decode(&long).unwrap().digest, [7; 128]);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((multihash, rest)) = take(&bytes) {
                prop_assert!(bytes.ends_with(rest));
                prop_assert!(multihash.digest.len() + rest.len() + 2 <= bytes.len());
            }
        }
    }
}
