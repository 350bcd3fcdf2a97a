//! Content identifiers as Go reads them, with its error texts.

use super::multihash::{self, MultihashError, varint};

/// Bytes of a CID of version 0: the multihash of a SHA2-256 digest and nothing else.
const V0: usize = 34;

/// Why bytes are no CID, in the words of go-cid 0.4.1, which says most of it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    /// Starts like version 0 and ends early.
    #[error("invalid cid: invalid cid: not enough bytes for cid v0")]
    ShortV0,
    /// Neither version 0 nor 1.
    #[error("invalid cid: invalid cid: expected 1 as the cid version number, got: {0}")]
    Version(u64),
    /// A bad varint or multihash.
    #[error("invalid cid: invalid cid: {0}")]
    Multihash(#[from] MultihashError),
    /// Something follows.
    #[error("invalid cid: trailing bytes in data buffer passed to cid Cast")]
    Trailing,
}

/// The multihash of a binary CID of version 0 or 1; its codec is of no account to the DHT.
///
/// # Errors
/// See [`CidError`].
pub fn multihash_of(cid: &[u8]) -> Result<&[u8], CidError> {
    let (multihash, rest) = match cid {
        // Code and length of SHA2-256.
        [0x12, 32, _, ..] => cid.split_at_checked(V0).ok_or(CidError::ShortV0)?,
        _ => {
            let (version, rest) = varint(cid)?;
            if version != 1 {
                return Err(CidError::Version(version));
            }
            let (_codec, body) = varint(rest)?;
            let (_, rest) = multihash::take(body)?;
            body.split_at(body.len() - rest.len())
        }
    };
    if !rest.is_empty() {
        return Err(CidError::Trailing);
    }
    Ok(multihash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA2_256: [u8; 2] = [0x12, 32];

    fn v1(multihash: &[u8]) -> Vec<u8> {
        [&[1, 0x55], multihash].concat()
    }

    #[test]
    fn both_versions_hold_a_multihash() {
        let multihash = [&SHA2_256[..], &[7; 32]].concat();
        assert_eq!(multihash_of(&multihash), Ok(&multihash[..]));
        assert_eq!(multihash_of(&v1(&multihash)), Ok(&multihash[..]));
        let identity = [&[0, 70][..], &[1; 70]].concat();
        assert_eq!(multihash_of(&v1(&identity)), Ok(&identity[..]));
    }

    /// The right-hand sides were printed by go-cid 0.4.1.
    #[test]
    fn refusals_are_worded_as_in_go() {
        let zeros = [&SHA2_256[..], &[0; 32]].concat();
        let short = "multihash too short. must be >= 2 bytes";
        let cut = "varints malformed, could not reach the end";
        let cases: [(&[u8], &str); 13] = [
            (b"", cut),
            (b"\x01", cut),
            (b"\x01\x55", short),
            (b"\x01\x55\x12", short),
            (b"\x12", "expected 1 as the cid version number, got: 18"),
            (b"\x12\x20", "expected 1 as the cid version number, got: 18"),
            (b"\x12\x20\x01", "not enough bytes for cid v0"),
            (&zeros[..33], "not enough bytes for cid v0"),
            (b"QmX", "expected 1 as the cid version number, got: 81"),
            (b"\x80\x00", "varint not minimally encoded"),
            (&[0xff; 10], "varints larger than uint63 not supported"),
            (b"\x01\x80", cut),
            (
                b"\x01\x55\x12\x20\x01",
                "length greater than remaining number of bytes in buffer",
            ),
        ];
        for (bytes, reason) in cases {
            let text = multihash_of(bytes).unwrap_err().to_string();
            assert_eq!(text, format!("invalid cid: invalid cid: {reason}"));
        }
        for mut bytes in [zeros.clone(), v1(&zeros)] {
            bytes.push(0);
            assert_eq!(
                multihash_of(&bytes).unwrap_err().to_string(),
                "invalid cid: trailing bytes in data buffer passed to cid Cast"
            );
        }
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            if let Ok(multihash) = multihash_of(&bytes) {
                prop_assert!(bytes.ends_with(multihash));
            }
        }
    }
}
