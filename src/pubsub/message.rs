//! Messages. What is signed, what peers are sent and what a subscriber gets are parts of one
//! buffer.

mod fields;
mod validation;

use std::sync::Arc;

use bytes::Bytes;
use libp2p::{
    PeerId,
    identity::{Keypair, SigningError},
};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::seen::{IdHash, Sequence};
pub(super) use fields::fields;
pub(super) use validation::{ValidationError, Validator};

use crate::fixed_limits::fixed_limit;

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

/// Largest RPC, in bytes (go-libp2p-pubsub's limit); peers reset the stream that carries a
/// larger one.
pub const MAX_RPC: usize = 1 << 20;
fixed_limit!("pubsub: message", bytes MAX_RPC);

/// What precedes a message when it is signed.
const SIGNING_PREFIX: &[u8] = b"libp2p-pubsub:";

/// Longest public key in bytes that a peer id contains (libp2p's peer id specification).
const MAX_INLINE_KEY: usize = 42;

/// Signatures of some kinds of key differ in length by a few bytes.
const SIGNATURE_SLACK: usize = 8;

const SEQNO_LEN: usize = size_of::<u64>();

/// A message, as its author made it.
#[derive(Debug)]
pub struct Message {
    body: Bytes,
    topic: Arc<[u8]>,
    author: Option<PeerId>,
    message_id: Bytes,
    id_hash: IdHash,
}

impl Message {
    /// The fields in the order of their numbers: a message within an RPC, and what a client gets
    /// of it.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Where it was published.
    #[must_use]
    pub fn topic(&self) -> &Arc<[u8]> {
        &self.topic
    }

    pub(super) fn author(&self) -> Option<PeerId> {
        self.author
    }

    /// What peers call it: its author and the author's number for it, as in Go.
    pub(super) fn message_id(&self) -> &Bytes {
        &self.message_id
    }

    /// Its author and the author's number, if it has both.
    pub(super) fn origin(&self) -> Option<Sequence> {
        let (author, number) = self.message_id.split_last_chunk::<SEQNO_LEN>()?;
        self.author.map(|_| Sequence {
            author: IdHash::of(author),
            number: u64::from_be_bytes(*number),
        })
    }

    /// What it is called here.
    pub(super) fn id_hash(&self) -> IdHash {
        self.id_hash
    }

    /// Bytes of memory that it counts.
    pub(super) fn size(&self) -> usize {
        self.body.len() + size_of::<Self>() + self.message_id.len()
    }
}

/// The name of a topic as it was sent: any bytes, as in Go. One that is absent is empty.
pub(super) fn topic_name(field: Option<&Bytes>) -> &[u8] {
    field.map_or(&[], |name| name)
}

/// Who made a message, and the number it has there.
#[must_use]
pub(super) fn message_id(from: Option<&[u8]>, seqno: Option<&[u8]>) -> Vec<u8> {
    [from.unwrap_or_default(), seqno.unwrap_or_default()].concat()
}

/// A message being put together behind [`SIGNING_PREFIX`].
struct Draft {
    buffer: Vec<u8>,
}

impl Draft {
    fn new(
        from: Option<&[u8]>,
        data: Option<&[u8]>,
        seqno: Option<&[u8]>,
        topic: Option<&[u8]>,
        signature_len: usize,
    ) -> Self {
        let fields = [from, data, seqno, topic];
        let len: usize = fields
            .iter()
            .flatten()
            .map(|value| field(value.len()))
            .sum();
        let mut buffer = Vec::with_capacity(SIGNING_PREFIX.len() + len + signature_len);
        buffer.extend_from_slice(SIGNING_PREFIX);
        let mut draft = Self { buffer };
        for (number, value) in (1..).zip(fields) {
            draft.put(number, value);
        }
        draft
    }

    fn put(&mut self, number: u32, value: Option<&[u8]>) {
        if let Some(value) = value {
            encode_key(number, WireType::LengthDelimited, &mut self.buffer);
            encode_varint(value.len() as u64, &mut self.buffer);
            self.buffer.extend_from_slice(value);
        }
    }

    fn signed_text(&self) -> &[u8] {
        &self.buffer
    }

    fn finish(
        mut self,
        signature: Option<&[u8]>,
        key: Option<&[u8]>,
        topic: Arc<[u8]>,
        author: Option<PeerId>,
        message_id: Vec<u8>,
    ) -> Message {
        self.put(5, signature);
        self.put(6, key);
        Message {
            body: Bytes::from(self.buffer).slice(SIGNING_PREFIX.len()..),
            topic,
            author,
            id_hash: IdHash::of(&message_id),
            message_id: message_id.into(),
        }
    }
}

/// Bytes of a field of `len` bytes with a number below 16.
fn field(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// This node as the author of messages.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) peer: PeerId,
    pub(super) from: Bytes,
    /// `None` if messages are not signed.
    identity: Option<Keypair>,
    key: Option<Bytes>,
    /// Bytes of a signature and a key in an RPC, at most.
    signature_len: usize,
}

impl Author {
    pub(super) fn new(identity: &Keypair, sign: bool) -> Result<Self, SigningError> {
        let peer = identity.public().to_peer_id();
        let key = identity.public().encode_protobuf();
        let key = (sign && key.len() > MAX_INLINE_KEY).then(|| Bytes::from(key));
        let mut signature_len = 0;
        if sign {
            let signature = identity.sign(&[])?.len() + SIGNATURE_SLACK;
            signature_len += field(signature) + key.as_ref().map_or(0, |key| field(key.len()));
        }
        Ok(Self {
            peer,
            from: peer.to_bytes().into(),
            identity: sign.then(|| identity.clone()),
            key,
            signature_len,
        })
    }

    /// Bytes of payload that fit one message on `topic`, at most.
    pub(super) fn room(&self, topic: &[u8]) -> usize {
        let rest =
            field(self.from.len()) + field(SEQNO_LEN) + field(topic.len()) + self.signature_len;
        // The lengths in front of the payload and of the message.
        let lengths = 2 * (1 + encoded_len_varint(MAX_RPC as u64));
        MAX_RPC.saturating_sub(rest + lengths)
    }

    /// Makes a message with this number.
    ///
    /// # Errors
    /// If the key does not sign.
    pub(super) fn message(
        &self,
        topic: &Arc<[u8]>,
        data: Option<&[u8]>,
        seqno: u64,
    ) -> Result<Message, SigningError> {
        let seqno = seqno.to_be_bytes();
        let (from, seqno) = (Some(&self.from[..]), Some(&seqno[..]));
        let draft = Draft::new(from, data, seqno, Some(topic), self.signature_len);
        let signature = match &self.identity {
            Some(identity) => Some(identity.sign(draft.signed_text())?),
            None => None,
        };
        let (signature, key) = (signature.as_deref(), self.key.as_deref());
        let message_id = message_id(from, seqno);
        Ok(draft.finish(signature, key, topic.clone(), Some(self.peer), message_id))
    }
}

#[cfg(test)]
mod tests;
