//! The token, in a file that only its owner can read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rand::Rng as _;

/// Bytes of randomness in a token that is made.
const RANDOM: usize = 32;

/// Characters that a token has at least.
const SHORTEST: usize = 32;

/// Bytes of the file.
const MAX_SIZE: u64 = 4096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or made.
    #[error("-controlToken={}: {}", .path.display(), crate::wording::system_error(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner can read or write it.
    #[error("-controlToken={}: others can read or write it: chmod 600", .0.display())]
    Open(PathBuf),
    /// What it holds is no token.
    #[error("-controlToken={}: not a token of {SHORTEST} visible characters at least", .0.display())]
    Text(PathBuf),
}

/// Reads the token, or makes one if there is no file.
pub(super) fn load_or_make(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::Io {
        path: path.to_owned(),
        source,
    };
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => {
            let random: [u8; RANDOM] = rand::rng().random();
            let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let written = file.write_all(format!("{token}\n").as_bytes());
            written.and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(token)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path, failed),
        Err(error) => Err(failed(error)),
    }
}

fn read(path: &Path, failed: impl Fn(io::Error) -> TokenError) -> Result<String, TokenError> {
    let file = File::open(path).map_err(&failed)?;
    let meta = file.metadata().map_err(&failed)?;
    if !meta.is_file() {
        return Err(TokenError::Text(path.to_owned()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(TokenError::Open(path.to_owned()));
    }
    let mut text = String::new();
    let read = file.take(MAX_SIZE).read_to_string(&mut text);
    read.map_err(failed)?;
    let token = text.trim();
    match token.len() >= SHORTEST && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(TokenError::Text(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_token_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let token = load_or_make(&path).expect("made");
        assert_eq!(token.len(), 2 * RANDOM);
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).expect("read"), token);
        mode(0o640).expect("set");
        assert!(matches!(load_or_make(&path), Err(TokenError::Open(_))));
        mode(0o400).expect("set");
        assert_eq!(load_or_make(&path).expect("read"), token);
        mode(0o600).expect("set");
        for text in [
            "",
            "short",
            "0123456789abcdef 0123456789abcdef",
            "ü23456789abcdef0123456789abcdef01",
        ] {
            fs::write(&path, text).expect("written");
            assert!(
                matches!(load_or_make(&path), Err(TokenError::Text(_))),
                "{text}"
            );
        }
        assert!(matches!(
            load_or_make(folder.path()),
            Err(TokenError::Text(_))
        ));
        let missing = folder.path().join("a/b");
        assert!(matches!(load_or_make(&missing), Err(TokenError::Io { .. })));
    }
}
