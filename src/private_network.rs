//! The key of a private network, as the specification's key file has it (Pre-shared Key V1).
//!
//! Three lines: `/key/swarm/psk/1.0.0/`, the encoding of the key, the key of 32 bytes. Encodings
//! are go-libp2p's: `/base16/`, `/base64/` and `/bin/`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use libp2p::pnet::PreSharedKey;
use multibase::Base;
use zeroize::Zeroizing;

use crate::wording::system_error;

/// First line of a key file.
const HEADER: &[u8] = b"/key/swarm/psk/1.0.0/";

/// Bytes of a key.
const KEY: usize = 32;

/// Largest key file in bytes, far above one with a key.
const MAX_SIZE: u64 = 4096;

/// Why a key file of a private network is refused.
#[derive(Debug, thiserror::Error)]
pub enum PrivateNetworkError {
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
    /// The file is no key.
    #[error("{}: {reason}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: FormatError,
    },
}

/// What is wrong with the content of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another first line.
    #[error("the first line is not /key/swarm/psk/1.0.0/")]
    Header,
    /// Another second line.
    #[error("the second line is not /base16/, /base64/ or /bin/")]
    Encoding,
    /// The third line is not in that encoding, or has another size.
    #[error("the third line is no key of 32 bytes in that encoding")]
    Key,
}

/// Reads a key file.
///
/// # Errors
/// [`PrivateNetworkError`]; the daemon must not start in another network than the one asked for.
pub fn load(path: &Path) -> Result<PreSharedKey, PrivateNetworkError> {
    let failed = |action: &'static str| {
        let path = path.to_owned();
        move |source| PrivateNetworkError::File {
            action,
            path,
            source,
        }
    };
    let file = File::open(path).map_err(failed("open"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SIZE as usize));
    file.take(MAX_SIZE)
        .read_to_end(&mut bytes)
        .map_err(failed("read"))?;
    decode(&bytes).map_err(|reason| PrivateNetworkError::Key {
        path: path.to_owned(),
        reason,
    })
}

/// Reads the content of a key file.
///
/// # Errors
/// [`FormatError`].
pub fn decode(bytes: &[u8]) -> Result<PreSharedKey, FormatError> {
    let (header, rest) = line(bytes);
    if header != HEADER {
        return Err(FormatError::Header);
    }
    let (encoding, rest) = line(rest);
    let base = match encoding {
        // Its bytes may be line feeds.
        b"/bin/" => return key(rest.get(..KEY).ok_or(FormatError::Key)?),
        b"/base16/" => Base::Base16Lower,
        b"/base64/" => Base::Base64Pad,
        _ => return Err(FormatError::Encoding),
    };
    let text = std::str::from_utf8(line(rest).0).map_err(|_| FormatError::Key)?;
    let text = match base {
        Base::Base16Lower => Zeroizing::new(text.to_ascii_lowercase()),
        _ => Zeroizing::new(text.to_owned()),
    };
    let decoded = Zeroizing::new(base.decode(text.as_str()).map_err(|_| FormatError::Key)?);
    key(&decoded)
}

fn key(bytes: &[u8]) -> Result<PreSharedKey, FormatError> {
    let key: [u8; KEY] = bytes.try_into().map_err(|_| FormatError::Key)?;
    Ok(PreSharedKey::new(key))
}

/// The first line of `bytes`, without its end, and what follows.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

#[cfg(test)]
mod tests;
