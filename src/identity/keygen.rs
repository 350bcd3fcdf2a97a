//! Makes key files, as the Go daemon's `p2p-keygen` does.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::Keypair;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::rand_core::OsRng;
use zeroize::Zeroizing;

use super::{IdentityError, decode, encode, key_type};
use crate::wording::system_error;

/// Only the owner reads a key, and nobody overwrites it.
const MODE: u32 = 0o400;

/// What `keygen` is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeygenArgs {
    /// Size of an RSA key, in bits.
    pub bits: i64,
    /// The file to write.
    pub file: PathBuf,
    /// Type of the key.
    pub key_type: String,
}

impl Default for KeygenArgs {
    fn default() -> Self {
        Self {
            bits: 2048,
            file: "identity".into(),
            // As in Go.
            key_type: "rsa".into(),
        }
    }
}

/// Why no key file was made.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// A type that is not offered.
    #[error("Unknown key type {0}; must be rsa, ed25519, secp256k1 or ecdsa")]
    Type(String),
    /// A size that could not be loaded again.
    #[error("rsa keys must have 2048 to 4096 bits, a multiple of 512, not {0}")]
    Bits(i64),
    /// The key could not be made.
    #[error("cannot make a key: {0}")]
    Make(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The key was made and cannot be loaded again.
    #[error(transparent)]
    Check(#[from] IdentityError),
    /// The file could not be written.
    #[error("open {}: {}", .path.display(), system_error(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes a key, writes it to a new file with mode 0400 and returns its peer id.
///
/// # Errors
/// [`KeygenError`]; no file is left behind, and one that exists is never touched.
pub fn generate(args: &KeygenArgs) -> Result<PeerId, KeygenError> {
    let bytes = make(args)?;
    let keypair = decode(&bytes)?;
    write(&args.file, &bytes).map_err(|source| KeygenError::Write {
        path: args.file.clone(),
        source,
    })?;
    Ok(keypair.public().to_peer_id())
}

/// Makes the key file of a daemon, an Ed25519 key, unless there is a file already; one that exists
/// is never touched.
///
/// # Errors
/// [`KeygenError`]: the file is not there and cannot be made.
pub fn create_if_missing(path: &Path) -> Result<(), KeygenError> {
    let args = KeygenArgs {
        file: path.to_owned(),
        key_type: "ed25519".into(),
        ..KeygenArgs::default()
    };
    match path.try_exists() {
        Ok(true) => Ok(()),
        _ => match generate(&args) {
            // Another daemon was quicker.
            Err(KeygenError::Write { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            made => made.map(drop),
        },
    }
}

fn make(args: &KeygenArgs) -> Result<Zeroizing<Vec<u8>>, KeygenError> {
    let keypair = match args.key_type.as_str() {
        "rsa" => return make_rsa(args.bits),
        "ed25519" => Keypair::generate_ed25519(),
        "secp256k1" => Keypair::generate_secp256k1(),
        "ecdsa" => Keypair::generate_ecdsa(),
        other => return Err(KeygenError::Type(other.to_owned())),
    };
    keypair
        .to_protobuf_encoding()
        .map(Zeroizing::new)
        .map_err(|error| KeygenError::Make(error.into()))
}

fn make_rsa(bits: i64) -> Result<Zeroizing<Vec<u8>>, KeygenError> {
    let size = usize::try_from(bits)
        .ok()
        .filter(|bits| (2048..=4096).contains(bits) && bits.is_multiple_of(512))
        .ok_or(KeygenError::Bits(bits))?;
    let key = rsa::RsaPrivateKey::new(&mut OsRng, size)
        .map_err(|error| KeygenError::Make(error.into()))?;
    let der = key
        .to_pkcs1_der()
        .map_err(|error| KeygenError::Make(error.into()))?;
    Ok(encode(key_type::RSA, der.as_bytes()))
}

/// Creates `path`; `create_new` follows no link and refuses what exists.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is no use; the first error is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written
}
