//! Frames and protobuf fields written out by hand, so that a test does not rest on the
//! encoder it is testing.

/// Unsigned LEB128.
#[must_use]
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A varint length, then `payload`.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [varint(payload.len() as u64), payload.to_vec()].concat()
}

/// A field of wire type 0.
#[must_use]
pub fn int(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value as u64)].concat()
}

/// A field of wire type 2.
#[must_use]
pub fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), frame(value)].concat()
}
