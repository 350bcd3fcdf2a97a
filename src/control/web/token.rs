//! The token, in a file that only its owner can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rand::Rng as _;
use rustix::fs::{Mode, OFlags};

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
    /// Another user has made it, and knows what it holds.
    #[error("-controlToken={}: belongs to another user", .0.display())]
    Owner(PathBuf),
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
    match read(path) {
        Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let random: [u8; RANDOM] = rand::rng().random();
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    match make(path, &token) {
        Ok(()) => Ok(token),
        // Another start was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(failed(error)),
    }
}

/// Makes the file, whole or not at all, and only if there is none.
fn make(path: &Path, token: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", rand::random::<u64>()));
    let temporary = PathBuf::from(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(format!("{token}\n").as_bytes());
    let written = written.and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    linked.and(removed)?;
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn read(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::Io {
        path: path.to_owned(),
        source,
    };
    // What stands there may be anybody's: a link is not followed, a pipe not waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty());
    let file = File::from(file.map_err(io::Error::from).map_err(failed)?);
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(TokenError::Text(path.to_owned()));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(TokenError::Owner(path.to_owned()));
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
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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
        // Nothing else is left beside it.
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 1);
        let link = folder.path().join("link");
        symlink(&path, &link).expect("a link");
        fs::write(&path, &token).expect("written");
        assert!(matches!(load_or_make(&link), Err(TokenError::Io { .. })));
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
        assert!(matches!(load_or_make(&pipe), Err(TokenError::Text(_))));
        let missing = folder.path().join("a/b");
        assert!(matches!(load_or_make(&missing), Err(TokenError::Io { .. })));
    }

    #[test]
    fn a_token_of_another_user_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let token = load_or_make(&path).expect("made");
        let other = 65_534;
        // Only root can give files away; others have none of another user to read.
        match std::os::unix::fs::chown(&path, Some(other), None) {
            Ok(()) => assert!(matches!(load_or_make(&path), Err(TokenError::Owner(_)))),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(load_or_make(&path).expect("read"), token);
            }
        }
    }
}
