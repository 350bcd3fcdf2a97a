//! Validation of messages that peers send.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::{PeerId, identity::PublicKey};

use super::{super::Signing, Draft, Message, SEQNO_LEN, field, message_id, pb};
use crate::identity::contained_key;

/// Why a message of a peer is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum ValidationError {
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

/// Validates messages of peers. It remembers the key of the last author, since a peer mostly sends
/// many messages of few authors.
#[derive(Debug)]
pub(in super::super) struct Validator {
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

impl Validator {
    pub(in super::super) fn new(signing: Signing) -> Self {
        Self {
            signing,
            last: None,
        }
    }

    /// Checks the author, the number and the signature of `raw`, which was published on `topic`.
    pub(in super::super) fn validate(
        &mut self,
        raw: &pb::Message,
        topic: Arc<[u8]>,
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
        let signature_len = [signature, key].into_iter().flatten();
        let signature_len = signature_len.map(|part| field(part.len())).sum();
        let draft = Draft::new(
            from,
            raw.data.as_deref(),
            seqno,
            raw.topic.as_deref(),
            signature_len,
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
