//! Messages: what is signed, what peers send, what a subscriber gets. All three are parts of one
//! buffer.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey, SigningError},
};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::{Signing, seen::IdHash};
use crate::identity::contained_key;

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
    topic: Arc<str>,
    author: Option<PeerId>,
    message_id: Vec<u8>,
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
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(super) fn author(&self) -> Option<PeerId> {
        self.author
    }

    /// What peers call it: its author and the author's number for it, as in Go.
    pub(super) fn message_id(&self) -> &[u8] {
        &self.message_id
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
        topic: Option<&str>,
        proof: usize,
    ) -> Self {
        let fields = [from, data, seqno, topic.map(str::as_bytes)];
        let len: usize = fields
            .iter()
            .flatten()
            .map(|value| field(value.len()))
            .sum();
        let mut buffer = Vec::with_capacity(SIGNING_PREFIX.len() + len + proof);
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
        topic: Arc<str>,
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
            message_id,
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
        let rest = field(self.from.len()) + field(SEQNO_LEN) + field(topic.len()) + self.proof;
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
        topic: &Arc<str>,
        data: Option<&[u8]>,
        seqno: u64,
    ) -> Result<Message, SigningError> {
        let seqno = seqno.to_be_bytes();
        let (from, seqno) = (Some(&self.from[..]), Some(&seqno[..]));
        let draft = Draft::new(from, data, seqno, Some(topic), self.proof);
        let signature = match &self.identity {
            Some(identity) => Some(identity.sign(draft.signed_text())?),
            None => None,
        };
        let (signature, key) = (signature.as_deref(), self.key.as_deref());
        let message_id = message_id(from, seqno);
        Ok(draft.finish(signature, key, topic.clone(), Some(self.peer), message_id))
    }
}

/// Why a message of a peer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValidationError {
    #[error("its author is no peer id")]
    Author,
    #[error("its number has not 8 bytes")]
    Number,
    #[error("it is not signed")]
    Unsigned,
    #[error("it is signed")]
    Signed,
    #[error("its key is not its author's, or absent")]
    Key,
    #[error("its signature is wrong")]
    Signature,
}

/// Judges messages of peers. Remembers the key of the last author, since a peer mostly sends
/// many messages of few authors.
#[derive(Debug)]
pub(super) struct Judge {
    signing: Signing,
    last: Option<Known>,
}

/// An author whose key has been read.
#[derive(Debug)]
struct Known {
    from: Bytes,
    /// As it was sent along.
    sent: Option<Bytes>,
    key: PublicKey,
}

impl Judge {
    pub(super) fn new(signing: Signing) -> Self {
        Self {
            signing,
            last: None,
        }
    }

    /// Whether `raw`, on `topic`, is what it says it is.
    pub(super) fn judge(
        &mut self,
        raw: &pb::Message,
        topic: Arc<str>,
    ) -> Result<Message, ValidationError> {
        let from = raw.from.as_deref();
        let author = from.map(PeerId::from_bytes).transpose();
        let author = author.map_err(|_| ValidationError::Author)?;
        let seqno = raw.seqno.as_deref();
        if seqno.is_some_and(|seqno| seqno.len() != SEQNO_LEN) {
            return Err(ValidationError::Number);
        }
        let signature = raw.signature.as_deref();
        let key = raw.key.as_deref();
        match (self.signing, signature) {
            (Signing::Strict, None) => return Err(ValidationError::Unsigned),
            (Signing::Strict, _) if seqno.is_none() => return Err(ValidationError::Number),
            (Signing::Off, Some(_)) => return Err(ValidationError::Signed),
            _ => {}
        }
        let proof = [signature, key].into_iter().flatten();
        let proof = proof.map(|part| field(part.len())).sum();
        let draft = Draft::new(
            from,
            raw.data.as_deref(),
            seqno,
            raw.topic.as_deref(),
            proof,
        );
        if let Some(signature) = signature {
            let author = author.ok_or(ValidationError::Author)?;
            let public = self.key(raw, &author).ok_or(ValidationError::Key)?;
            if !public.verify(draft.signed_text(), signature) {
                return Err(ValidationError::Signature);
            }
        }
        let message_id = message_id(from, seqno);
        Ok(draft.finish(signature, key, topic, author, message_id))
    }

    /// The author's key: the one sent along, else the one in its peer id.
    fn key(&mut self, raw: &pb::Message, author: &PeerId) -> Option<&PublicKey> {
        let from = raw.from.as_deref()?;
        let is_last = |known: &Known| known.from == from && known.sent == raw.key;
        if !self.last.as_ref().is_some_and(is_last) {
            let key = match raw.key.as_deref() {
                Some(key) => PublicKey::try_decode_protobuf(key).ok()?,
                None => contained_key(author)?,
            };
            if key.to_peer_id() != *author {
                return None;
            }
            // Slices would keep all of the RPC that they came with.
            self.last = Some(Known {
                from: Bytes::copy_from_slice(from),
                sent: raw.key.as_deref().map(Bytes::copy_from_slice),
                key,
            });
        }
        self.last.as_ref().map(|known| &known.key)
    }
}

/// A field of an RPC: its number, and its payload if it has a length.
pub(super) fn fields(rpc: &Bytes) -> Fields<'_> {
    Fields { rpc, at: 0 }
}

/// See [`fields`].
#[derive(Debug)]
pub(super) struct Fields<'a> {
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
            // Nothing that follows makes sense.
            Err(_) => self.rpc.len(),
        };
        Some(found.map(|(number, range)| (number, self.rpc.slice(range))))
    }
}

#[cfg(test)]
mod tests;
