//! Decoding with bounds: a message of 4 MiB may name two million empty peers, which would take
//! thirty times its size in memory.

use bytes::{Buf as _, Bytes};
use prost::{
    DecodeError, Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{
    MAX_ADDRESSES, MAX_CLOSER,
    pb::{self, Message},
};

/// Field numbers of `proto/kad.proto`.
const CLOSER_PEERS: u32 = 8;
const PROVIDER_PEERS: u32 = 9;
const ADDRS: u32 = 2;

/// Decodes a message with at most 21 closer peers, `max_providers` providers and 32 addresses of
/// each. What is beyond is skipped.
pub(in super::super) fn decode(
    payload: Bytes,
    max_providers: usize,
) -> Result<Message, DecodeError> {
    let mut message = Message::default();
    let tags = [CLOSER_PEERS, PROVIDER_PEERS];
    for_each(payload, &tags, |part| {
        match part {
            Part::Others(fields) => message.merge(fields)?,
            Part::Field(tag, content) => {
                let (peers, max) = match tag {
                    CLOSER_PEERS => (&mut message.closer_peers, MAX_CLOSER),
                    _ => (&mut message.provider_peers, max_providers),
                };
                if peers.len() < max {
                    peers.push(peer(content)?);
                }
            }
        }
        Ok(())
    })?;
    Ok(message)
}

fn peer(payload: Bytes) -> Result<pb::Peer, DecodeError> {
    let mut peer = pb::Peer::default();
    for_each(payload, &[ADDRS], |part| {
        match part {
            Part::Others(fields) => peer.merge(fields)?,
            Part::Field(_, address) if peer.addrs.len() < MAX_ADDRESSES => {
                peer.addrs.push(address);
            }
            Part::Field(..) => {}
        }
        Ok(())
    })?;
    Ok(peer)
}

/// A part of an encoded message.
enum Part {
    /// The content of a field that was looked for.
    Field(u32, Bytes),
    /// Other fields, encoded.
    Others(Bytes),
}

/// Calls `take` with every part of `payload`, in order. Fields of other than the right wire type
/// are left for prost to refuse.
fn for_each(
    payload: Bytes,
    tags: &[u32],
    mut take: impl FnMut(Part) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut rest = payload.clone();
    // Where the fields begin that were not looked for.
    let mut begin = 0;
    while rest.has_remaining() {
        let at = payload.len() - rest.len();
        let (tag, wire_type) = decode_key(&mut rest)?;
        let after_key = rest.clone();
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if wire_type != WireType::LengthDelimited || !tags.contains(&tag) {
            continue;
        }
        if begin < at {
            take(Part::Others(payload.slice(begin..at)))?;
        }
        begin = payload.len() - rest.len();
        let mut content = after_key.slice(..after_key.len() - rest.len());
        decode_varint(&mut content)?;
        take(Part::Field(tag, content))?;
    }
    if begin < payload.len() {
        take(Part::Others(payload.slice(begin..)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn millions_of_empty_peers_cost_nothing() {
        let empty = [[0x42, 0], [0x4a, 0]].concat();
        let message = decode(empty.repeat(1 << 20).into(), 16).expect("a message");
        assert_eq!(message.closer_peers.len(), MAX_CLOSER);
        assert_eq!(message.provider_peers.len(), 16);
        let addresses = [0x12, 0].repeat(1 << 20);
        let peer = peer(addresses.into()).expect("a peer");
        assert_eq!(peer.addrs.len(), MAX_ADDRESSES);
    }

    proptest! {
        /// Whatever the bytes are, the verdict is that of the library, and so is the message.
        #[test]
        fn bytes_are_read_as_the_library_reads_them(
            bytes in prop::collection::vec(
                prop_oneof![Just(0x42_u8), Just(0x4a), Just(2), Just(0x12), any::<u8>()], 0..60,
            ),
        ) {
            let ours = decode(bytes.clone().into(), 1000);
            match Message::decode(&bytes[..]) {
                Ok(theirs) if theirs.closer_peers.len() <= MAX_CLOSER => {
                    prop_assert_eq!(ours.ok(), Some(theirs));
                }
                Ok(_) => prop_assert!(ours.is_ok()),
                Err(_) => prop_assert!(ours.is_err()),
            }
        }
    }
}
