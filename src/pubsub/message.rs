//! Messages: what is signed, and what a subscriber gets.

use bytes::Bytes;
use libp2p::{
    PeerId,
    gossipsub::RawMessage,
    identity::{Keypair, SigningError},
};
use prost::{Message as _, encoding::encoded_len_varint};

/// The messages of `proto/pubsub.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub(super) mod pb {
    include!(concat!(env!("OUT_DIR"), "/pubsub.pb.rs"));
}

/// Largest RPC of one message, in bytes (go-libp2p-pubsub's limit); peers reset the stream
/// that carries a larger one.
pub const MAX_RPC: usize = 1 << 20;

/// What precedes a message when it is signed.
const SIGNING_PREFIX: &[u8] = b"libp2p-pubsub:";

/// Longest public key in bytes that a peer id contains (libp2p's peer id specification).
const MAX_INLINE_KEY: usize = 42;

/// Signatures of some kinds of key differ in length by a few bytes.
const SIGNATURE_SLACK: usize = 8;

/// A message as its author made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The author's peer id, binary.
    pub from: Option<Bytes>,
    /// The payload.
    pub data: Bytes,
    /// The author's number for it.
    pub seqno: Option<u64>,
    /// Where it was published.
    pub topic: String,
    /// The author's signature, unless authors do not sign here.
    pub signature: Option<Bytes>,
    /// The author's public key, if the peer id does not contain it.
    pub key: Option<Bytes>,
}

impl Message {
    /// Bytes that a queued message counts.
    pub(super) fn size(&self) -> usize {
        let optional = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        self.data.len()
            + self.topic.len()
            + optional(&self.from)
            + optional(&self.signature)
            + optional(&self.key)
    }

    fn unsigned(&self) -> pb::Message {
        pb::Message {
            from: self.from.clone(),
            data: Some(self.data.clone()),
            seqno: self.seqno.map(seqno_bytes),
            topic: Some(self.topic.clone()),
            signature: None,
            key: None,
        }
    }

    /// The message as an RPC of its own, without the length in front.
    pub(super) fn rpc(&self) -> pb::Rpc {
        let message = pb::Message {
            signature: self.signature.clone(),
            key: self.key.clone(),
            ..self.unsigned()
        };
        pb::Rpc {
            publish: vec![message],
            control: None,
        }
    }
}

/// A sequence number as it travels.
#[must_use]
pub fn seqno_bytes(seqno: u64) -> Bytes {
    Bytes::copy_from_slice(&seqno.to_be_bytes())
}

/// This node as the author of messages.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) peer: PeerId,
    from: Bytes,
    /// `None` if messages are not signed.
    identity: Option<Keypair>,
    key: Option<Bytes>,
    /// Bytes of a signature and a key in an RPC, at most.
    proof: usize,
}

impl Author {
    pub(super) fn new(identity: &Keypair, sign: bool) -> Result<Self, SigningError> {
        let peer = identity.public().to_peer_id();
        let key = identity.public().encode_protobuf();
        let key = (sign && key.len() > MAX_INLINE_KEY).then(|| Bytes::from(key));
        let mut proof = 0;
        if sign {
            let signature = identity.sign(&[])?.len() + SIGNATURE_SLACK;
            proof += field(signature) + key.as_ref().map_or(0, |key| field(key.len()));
        }
        Ok(Self {
            peer,
            from: peer.to_bytes().into(),
            identity: sign.then(|| identity.clone()),
            key,
            proof,
        })
    }

    /// Bytes of payload that fit one message on `topic`, at most.
    pub(super) fn room(&self, topic: &str) -> usize {
        let seqno = field(size_of::<u64>());
        let rest = field(self.from.len()) + seqno + field(topic.len()) + self.proof;
        // The lengths in front of the payload and of the message.
        let lengths = 2 * (1 + encoded_len_varint(MAX_RPC as u64));
        MAX_RPC.saturating_sub(rest + lengths)
    }

    /// The message as the library sends it: signatures of all kinds of key that an identity
    /// can have are the same each time.
    pub(super) fn message(
        &self,
        topic: String,
        data: Bytes,
        seqno: u64,
    ) -> Result<Message, SigningError> {
        let mut message = Message {
            from: Some(self.from.clone()),
            data,
            seqno: Some(seqno),
            topic,
            signature: None,
            key: self.key.clone(),
        };
        if let Some(identity) = &self.identity {
            let mut text = SIGNING_PREFIX.to_vec();
            text.append(&mut message.unsigned().encode_to_vec());
            message.signature = Some(identity.sign(&text)?.into());
        }
        Ok(message)
    }
}

/// Bytes of a field of `len` bytes with a number below 16.
fn field(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Appends the signature and the key of `raw` to its payload: the library lets nothing else
/// through to where messages come out. [`open`] takes them off again.
pub(super) fn seal(raw: RawMessage) -> Vec<u8> {
    let (signature, key) = (raw.signature, raw.key);
    let mut data = raw.data;
    let len = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    data.reserve_exact(len(&signature) + len(&key) + 2 * LENGTH);
    for part in [&signature, &key] {
        data.extend_from_slice(part.as_deref().unwrap_or_default());
    }
    for part in [&signature, &key] {
        // One more than the length: zero is for what is absent.
        let length = part.as_ref().map_or(0, |part| part.len() as u64 + 1);
        data.extend_from_slice(&length.to_be_bytes());
    }
    data
}

const LENGTH: usize = size_of::<u64>();

/// Payload, signature and key of what [`seal`] made.
pub(super) fn open(sealed: Vec<u8>) -> Option<(Bytes, Option<Bytes>, Option<Bytes>)> {
    let mut rest = Bytes::from(sealed);
    let mut length = || {
        let at = rest.len().checked_sub(LENGTH)?;
        let bytes = rest.split_off(at);
        let length = u64::from_be_bytes(bytes[..].try_into().ok()?);
        usize::try_from(length).ok()
    };
    let (key, signature) = (length()?, length()?);
    let mut part = |length: usize| {
        let Some(length) = length.checked_sub(1) else {
            return Some(None);
        };
        let at = rest.len().checked_sub(length)?;
        Some(Some(rest.split_off(at)))
    };
    let key = part(key)?;
    let signature = part(signature)?;
    Some((rest, signature, key))
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::TopicHash;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sealed_opens_again(
            data: Vec<u8>,
            signature: Option<Vec<u8>>,
            key: Option<Vec<u8>>,
        ) {
            let raw = RawMessage {
                source: None,
                data: data.clone(),
                sequence_number: None,
                topic: TopicHash::from_raw("t"),
                signature: signature.clone(),
                key: key.clone(),
                validated: false,
            };
            let opened = open(seal(raw)).expect("as sealed");
            prop_assert_eq!(opened.0, data);
            prop_assert_eq!(opened.1.map(Vec::from), signature);
            prop_assert_eq!(opened.2.map(Vec::from), key);
        }

        #[test]
        fn any_bytes_open_or_do_not(bytes: Vec<u8>) {
            let _ = open(bytes);
        }

        #[test]
        fn what_has_room_fits(topic in ".{0,300}", short in 0_usize..3) {
            for identity in [
                Keypair::generate_ed25519(),
                Keypair::generate_secp256k1(),
                Keypair::generate_ecdsa(),
            ] {
                for sign in [true, false] {
                    let author = Author::new(&identity, sign).expect("a key");
                    let room = author.room(&topic);
                    let data = Bytes::from(vec![7; room - short]);
                    let message = author.message(topic.clone(), data, u64::MAX).expect("signed");
                    let len = message.rpc().encoded_len();
                    prop_assert!(len <= MAX_RPC, "{len}");
                    prop_assert!(len + 32 >= MAX_RPC, "{len}");
                }
            }
        }
    }
}
