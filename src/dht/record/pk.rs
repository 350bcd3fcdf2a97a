//! Records below `/pk/`: a public key under its own hash.

use std::error::Error as _;

use libp2p::{PeerId, identity::PublicKey};
use prost::Message;
use rsa::pkcs1;

use crate::wire::multihash::{self, MultihashError};

/// Size of RSA keys in bits (go-libp2p).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Bytes of an Ed25519 public key.
const ED25519: usize = 32;

/// Why a record below `/pk/` is refused, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkError {
    /// What follows `/pk/` is no multihash.
    #[error("key did not contain valid multihash: {0}")]
    Multihash(#[from] MultihashError),
    /// The value is no public key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The value is another key than the one asked for.
    #[error("public key does not match storage key")]
    Mismatch,
}

/// Why bytes are no public key; the texts are Go's where Go has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not protobuf.
    #[error("proto: cannot parse invalid wire-format data")]
    Wire,
    /// A field is absent.
    #[error("proto: required field crypto.pb.PublicKey.{0} not set")]
    Missing(&'static str),
    /// A type that the specification does not know.
    #[error("invalid or unsupported key type")]
    Type,
    /// Not the size of an Ed25519 key.
    #[error("expect ed25519 public key data size to be 32")]
    Ed25519Size,
    /// Neither of the two sizes of a point.
    #[error("malformed public key: invalid length: {0}")]
    Secp256k1Size(usize),
    /// An RSA key that peers refuse.
    #[error("rsa keys must be >= {} bits to be useful", RSA_BITS.start())]
    RsaTooSmall,
    /// An RSA key beyond what peers take.
    #[error("rsa keys must be <= {} bits", RSA_BITS.end())]
    RsaTooLarge,
    /// Bytes that are no key of the type.
    #[error("invalid {kind} key: {reason}")]
    Key {
        /// The type.
        kind: &'static str,
        /// The library's words.
        reason: String,
    },
}

/// `PublicKey` of the libp2p specification. Unlike the library's, it tells what is absent.
#[derive(Message)]
struct Fields {
    #[prost(int32, optional, tag = "1")]
    key_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    data: Option<Vec<u8>>,
}

/// Whether `value` is the public key with the hash `hash`.
pub(super) fn validate(hash: &[u8], value: &[u8]) -> Result<(), PkError> {
    multihash::decode(hash)?;
    let key = decode_key(value)?;
    if PeerId::from(key).to_bytes() != hash {
        return Err(PkError::Mismatch);
    }
    Ok(())
}

/// Reads a public key in its protobuf form.
///
/// The library decodes RSA and ECDSA keys without looking at every byte; as in Go, here only
/// the one encoding of a key is that key.
///
/// # Errors
/// See [`KeyError`].
pub fn decode_key(bytes: &[u8]) -> Result<PublicKey, KeyError> {
    let fields = Fields::decode(bytes).map_err(|_| KeyError::Wire)?;
    let key_type = fields.key_type.ok_or(KeyError::Missing("Type"))?;
    let data = fields.data.ok_or(KeyError::Missing("Data"))?;
    let kind = match key_type {
        0 => "rsa",
        1 if data.len() != ED25519 => return Err(KeyError::Ed25519Size),
        1 => "ed25519",
        2 if ![33, 65].contains(&data.len()) => return Err(KeyError::Secp256k1Size(data.len())),
        2 => "secp256k1",
        3 => "ecdsa",
        _ => return Err(KeyError::Type),
    };
    let bad = |reason: String| KeyError::Key { kind, reason };
    let key = PublicKey::try_decode_protobuf(bytes).map_err(|error| {
        let cause = error.source().map(ToString::to_string);
        bad(cause.unwrap_or_else(|| error.to_string()))
    })?;
    let canonical = match kind {
        "rsa" => {
            let key = key.clone().try_into_rsa();
            let key = key.map_err(|error| bad(error.to_string()))?;
            check_rsa(&key.encode_pkcs1())?;
            key.encode_x509() == data
        }
        "ecdsa" => {
            let key = key.clone().try_into_ecdsa();
            let key = key.map_err(|error| bad(error.to_string()))?;
            key.encode_der() == data
        }
        _ => true,
    };
    if !canonical {
        return Err(bad("not in its one encoding".to_owned()));
    }
    Ok(key)
}

/// The library takes any bytes for an RSA key.
fn check_rsa(der: &[u8]) -> Result<(), KeyError> {
    let key = pkcs1::RsaPublicKey::try_from(der).map_err(|error| KeyError::Key {
        kind: "rsa",
        reason: error.to_string(),
    })?;
    let modulus = key.modulus.as_bytes();
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = modulus.len() * 8 - unused as usize;
    if bits < *RSA_BITS.start() {
        return Err(KeyError::RsaTooSmall);
    }
    if bits > *RSA_BITS.end() {
        return Err(KeyError::RsaTooLarge);
    }
    Ok(())
}
