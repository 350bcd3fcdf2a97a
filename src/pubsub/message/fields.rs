//! The fields of an RPC, one by one.

use std::ops::Range;

use bytes::Bytes;
use prost::encoding::WireType;

/// The fields of an RPC: the number of each, and its payload if it has a length. An RPC is not
/// decoded as a whole, because a small one could become a large one in memory.
pub(in super::super) fn fields(rpc: &Bytes) -> Fields<'_> {
    Fields { rpc, at: 0 }
}

/// See [`fields`].
#[derive(Debug)]
pub(in super::super) struct Fields<'a> {
    rpc: &'a Bytes,
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = Result<(u32, Bytes), prost::DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};
        let rest = &self.rpc[self.at..];
        if rest.is_empty() {
            return None;
        }
        let mut tail = rest;
        let mut next = || -> Result<(u32, Range<usize>), prost::DecodeError> {
            let (number, kind) = decode_key(&mut tail)?;
            if kind != WireType::LengthDelimited {
                let before = self.rpc.len() - tail.len();
                skip_field(kind, number, &mut tail, DecodeContext::default())?;
                return Ok((0, before..before));
            }
            let mut value = tail;
            let len = decode_varint(&mut value)?;
            let start = self.rpc.len() - value.len();
            // Checks the length.
            skip_field(kind, number, &mut tail, DecodeContext::default())?;
            Ok((number, start..start + usize::try_from(len).unwrap_or(0)))
        };
        let found = next();
        self.at = match found {
            Ok(_) => self.rpc.len() - tail.len(),
            // What follows has no beginning.
            Err(_) => self.rpc.len(),
        };
        Some(found.map(|(number, range)| (number, self.rpc.slice(range))))
    }
}
