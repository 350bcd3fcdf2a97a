//! What a message takes in memory beside its encoded form.

use crate::fixed_limits::fixed_limit;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Bytes charged for each part: an entry of a list, and its name or address.
const PART: usize = 128;
fixed_limit!("memory charged for each part of a request", bytes PART);

/// Bytes of memory that the parts of `frame` may take once it is decoded. A part of two bytes, such as
/// an empty name, takes many more.
pub(crate) fn cost(frame: &[u8]) -> usize {
    count(frame, usize::MAX) * PART
}

/// As [`cost`]; `None` if there are more than `max` parts, which are not counted to the end.
pub(crate) fn cost_within(frame: &[u8], max: usize) -> Option<usize> {
    let count = count(frame, max);
    (count <= max).then_some(count * PART)
}

/// The fields of a message, and of those that are messages, as far as they can be read. No more are
/// counted than one above `max`.
fn count(mut message: &[u8], max: usize) -> usize {
    let mut count = 0;
    while let Some((body, rest)) = next(message) {
        count += 1;
        let mut body = body.unwrap_or_default();
        while let Some((_, rest)) = next(body) {
            count += 1;
            if count > max {
                return count;
            }
            body = rest;
        }
        if count > max {
            return count;
        }
        message = rest;
    }
    count
}

fn next(mut message: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if message.is_empty() {
        return None;
    }
    let (number, kind) = decode_key(&mut message).ok()?;
    if kind == WireType::LengthDelimited {
        let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
        let (body, rest) = message.split_at_checked(length)?;
        return Some((Some(body), rest));
    }
    skip_field(kind, number, &mut message, DecodeContext::default()).ok()?;
    Some((None, message))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::pb;

    #[test]
    fn each_name_counts_however_short_it_is() {
        let open = |names: usize| pb::Request {
            r#type: Some(2),
            stream_open: Some(pb::StreamOpenRequest {
                peer: Some(vec![1].into()),
                proto: vec![bytes::Bytes::new(); names],
                timeout: None,
            }),
            ..pb::Request::default()
        };
        let cost = |names| cost(&open(names).encode_to_vec()) / PART;
        assert_eq!((cost(0), cost(1), cost(100_000)), (3, 4, 100_003));
        let within = |names, max| cost_within(&open(names).encode_to_vec(), max);
        assert_eq!(within(10, 13), Some(13 * PART));
        assert_eq!((within(11, 13), within(100_000, 13)), (None, None));
    }

    #[test]
    fn bytes_that_are_no_message_cost_what_can_be_read() {
        let data = vec![0xff; 1 << 20];
        let publish = pb::Request {
            pubsub: Some(pb::PsRequest {
                data: Some(data.into()),
                ..pb::PsRequest::default()
            }),
            ..pb::Request::default()
        };
        assert_eq!(cost(&publish.encode_to_vec()) / PART, 2);
        assert_eq!(cost(&[0x0a, 5, 1]), 0);
        assert_eq!(cost(&[0x13; 64]), 0);
        assert_eq!(cost(b""), 0);
    }
}
