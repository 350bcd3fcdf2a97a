//! Key files (COMPATIBILITY.md 1.10): a protobuf `PrivateKey { type, data }`, as every libp2p
//! writes it.

pub(crate) mod fuzzing;
mod keygen;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libp2p::identity::{DecodingError, ed25519};
use prost::Message;
use zeroize::{Zeroize, Zeroizing};

use crate::{fixed_limits::fixed_limit, wording::system_error};

pub use keygen::{KeygenArgs, KeygenError, create_if_missing, generate};
pub use libp2p::identity::Keypair;
use libp2p::{PeerId, identity::PublicKey};

/// Largest key file in bytes, far above an 8192 bit RSA key.
const MAX_SIZE: u64 = 64 << 10;
fixed_limit!("key file", bytes MAX_SIZE);

/// Bytes of an Ed25519 seed and of a public key.
const ED25519_HALF: usize = 32;

/// Permission bits that let others than the owner in.
const OTHERS: u32 = 0o077;

/// `PrivateKey` of the libp2p specification.
#[derive(Message)]
struct PrivateKey {
    #[prost(int32, optional, tag = "1")]
    key_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    data: Option<Vec<u8>>,
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

/// Key types by their number in the file.
mod key_type {
    pub(super) const RSA: i32 = 0;
    pub(super) const ED25519: i32 = 1;
    pub(super) const SECP256K1: i32 = 2;
    pub(super) const ECDSA: i32 = 3;
}

/// A key file that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The key.
    pub keypair: Keypair,
    /// What the operator should know about the file.
    pub warning: Option<String>,
}

/// Why a key file is refused; the texts are Go's where Go has one.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be opened or read.
    #[error("{action} {}: {}", .path.display(), system_error(.source))]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large.
    #[error("read {}: larger than any key file ({MAX_SIZE} bytes)", .0.display())]
    TooLarge(PathBuf),
    /// Not protobuf.
    #[error("proto: cannot parse invalid wire-format data")]
    Wire,
    /// A field is absent.
    #[error("proto: required field crypto.pb.PrivateKey.{0} not set")]
    Missing(&'static str),
    /// A type that the specification does not know.
    #[error("invalid or unsupported key type")]
    Type,
    /// Neither of the two forms of an Ed25519 key.
    #[error("expected ed25519 data size to be 64 or 96, got {0}")]
    Ed25519Size(usize),
    /// The second copy of the public key differs from the first.
    #[error("expected redundant ed25519 public key to be redundant")]
    Ed25519Redundant,
    /// The public half is another key's.
    #[error("ed25519 public key does not belong to the private key")]
    Ed25519Mismatch,
    /// Not the size of a scalar.
    #[error("expected secp256k1 data size to be 32")]
    Secp256k1Size,
    /// An RSA key that peers refuse.
    #[error("rsa keys must be >= 2048 bits to be useful")]
    RsaTooSmall,
    /// An RSA key beyond what the library takes.
    #[error("rsa keys must be <= 4096 bits")]
    RsaTooLarge,
    /// Bytes that are no key of the type.
    #[error("invalid {kind} key: {}", innermost(.source))]
    Key {
        /// The type.
        kind: &'static str,
        /// What the library said.
        source: DecodingError,
    },
}

/// A key file that is refused; the words are those of its source.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: IdentityError,
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`]; the daemon must not start with another identity than the one asked for.
pub fn load(path: &Path) -> Result<Loaded, KeyFileError> {
    read(path).map_err(|source| KeyFileError {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Loaded, IdentityError> {
    let failed = |action: &'static str| {
        let path = path.to_owned();
        move |source| IdentityError::File {
            action,
            path,
            source,
        }
    };
    let file = File::open(path).map_err(failed("open"))?;
    let metadata = file.metadata().map_err(failed("stat"))?;
    // The size is known and reserved, so the secret is not left behind in a smaller buffer.
    let size = metadata.len().min(MAX_SIZE) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0)));
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read"))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(IdentityError::TooLarge(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    let warning = (metadata.is_file() && mode & OTHERS != 0).then(|| {
        let path = path.display();
        format!("key file {path} is open to others: mode {mode:04o}, 0400 is enough")
    });
    Ok(Loaded {
        keypair: decode(&bytes)?,
        warning,
    })
}

/// Reads the content of a key file.
///
/// # Errors
/// [`IdentityError`], except [`IdentityError::File`] and [`IdentityError::TooLarge`].
pub fn decode(bytes: &[u8]) -> Result<Keypair, IdentityError> {
    let mut key = PrivateKey::decode(bytes).map_err(|_| IdentityError::Wire)?;
    let key_type = key.key_type.ok_or(IdentityError::Missing("Type"))?;
    let data = key.data.as_mut().ok_or(IdentityError::Missing("Data"))?;
    let kind = match key_type {
        key_type::ED25519 => return ed25519_key(data),
        key_type::RSA => "rsa",
        key_type::SECP256K1 if data.len() != 32 => return Err(IdentityError::Secp256k1Size),
        key_type::SECP256K1 => "secp256k1",
        key_type::ECDSA => "ecdsa",
        _ => return Err(IdentityError::Type),
    };
    Keypair::from_protobuf_encoding(bytes).map_err(|source| {
        match (kind, innermost(&source).as_str()) {
            ("rsa", "TooSmall") => IdentityError::RsaTooSmall,
            ("rsa", "TooLarge") => IdentityError::RsaTooLarge,
            _ => IdentityError::Key { kind, source },
        }
    })
}

/// What the library says is wrong with a key, without what it was doing.
fn innermost(error: &DecodingError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The code of the multihash that is its own preimage (multiformats' table).
const IDENTITY_HASH: u64 = 0;

/// The public key inside a peer id, if the id is of a kind that contains one: up to 42 bytes
/// of key do, which is Ed25519 and secp256k1.
#[must_use]
pub fn contained_key(peer: &PeerId) -> Option<PublicKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_HASH {
        return None;
    }
    PublicKey::try_decode_protobuf(hash.digest()).ok()
}

/// Reads seed and public key; old files hold the public key twice.
fn ed25519_key(data: &mut [u8]) -> Result<Keypair, IdentityError> {
    let size = data.len();
    let (pair, again) = data
        .split_at_mut_checked(2 * ED25519_HALF)
        .filter(|(_, again)| matches!(again.len(), 0 | ED25519_HALF))
        .ok_or(IdentityError::Ed25519Size(size))?;
    if !again.is_empty() && pair.get(ED25519_HALF..) != Some(&*again) {
        return Err(IdentityError::Ed25519Redundant);
    }
    ed25519::Keypair::try_from_bytes(pair)
        .map(Keypair::from)
        .map_err(|_| IdentityError::Ed25519Mismatch)
}

/// Writes a key as the content of a key file.
fn encode(key_type: i32, data: &[u8]) -> Zeroizing<Vec<u8>> {
    let key = PrivateKey {
        key_type: Some(key_type),
        data: Some(data.to_vec()),
    };
    Zeroizing::new(key.encode_to_vec())
}

#[cfg(test)]
mod tests;
