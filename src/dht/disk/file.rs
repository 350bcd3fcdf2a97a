//! The file of a datastore: made whole or not at all, and nobody else's.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, StorageError, backends::FileBackend};

use super::{Contents, tables::Tables};
use crate::{fixed_limits::fixed_limit, wording::system_error};

/// Permission bits of a new file: its owner's alone.
const MODE: u32 = 0o600;

/// Permission bits that let others change the file.
const OTHERS_WRITE: u32 = 0o022;

/// Memory for parts of the file, in bytes.
const CACHE: usize = 4 << 20;
fixed_limit!("datastore: cache", bytes CACHE);

/// How every file of the store begins (redb's format).
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// Why a datastore is refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system does not let us.
    #[error("datastore {}: {source}: {advice}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: SystemError,
        /// What to do.
        advice: &'static str,
    },
    /// Others could put in what they like.
    #[error("datastore {} can be changed by others: mode {mode:04o}, 0600 is enough", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has it open.
    #[error("datastore {} is in use by another daemon: give each one its own", .0.display())]
    InUse(PathBuf),
    /// Somebody else's file.
    #[error("datastore {} is another program's file: name one that does not exist yet", .0.display())]
    Foreign(PathBuf),
    /// Of a later version.
    #[error("datastore {} has format {version}, which this version cannot read", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
    /// Changed by other means than ours.
    #[error(
        "datastore {} is damaged ({source}): move it away to start with an empty one",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: Box<redb::Error>,
    },
}

/// An error of the system's, worded as Go does.
#[derive(Debug, thiserror::Error)]
#[error("{}", system_error(.0))]
pub struct SystemError(io::Error);

impl DiskError {
    pub(super) fn file(path: &Path, error: io::Error) -> Self {
        use io::ErrorKind;
        let advice = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, or name another place",
            _ => "it must be a file that the daemon may read and write, in a directory that exists",
        };
        Self::File {
            path: path.to_owned(),
            source: SystemError(error),
            advice,
        }
    }

    pub(super) fn damaged(path: &Path, error: impl Into<redb::Error>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            source: Box::new(error.into()),
        }
    }
}

/// Opens or makes the file and reads all of it.
pub(super) fn open(path: &Path) -> Result<(Tables, Contents), DiskError> {
    let file = |error| DiskError::file(path, error);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(file(io::ErrorKind::IsADirectory.into()));
        }
        // A pipe would not even open.
        Ok(metadata) if !metadata.is_file() => return Err(DiskError::Foreign(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(file(error)),
    }
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let opened = opened.map_err(file)?;
    let mode = opened.metadata().map_err(file)?.permissions().mode() & 0o777;
    if mode & OTHERS_WRITE != 0 {
        return Err(DiskError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    if !begins_as_ours(&opened).map_err(file)? {
        return Err(DiskError::Foreign(path.to_owned()));
    }
    let database = database(path, opened)?;
    Tables::load(database, path)
}

/// Makes a new file under another name first, so that there is a whole one or none, however
/// early this process ends.
fn make(path: &Path) -> Result<(), DiskError> {
    let file = |error| DiskError::file(path, error);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", rand::random::<u64>()));
    let temporary = PathBuf::from(name);
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&temporary)
        .map_err(file)?;
    let filled = database(path, made).and_then(|database| Tables::create(&database, path));
    // A link, unlike a new name, replaces nothing: of two daemons one makes the file, and the
    // other finds it in use.
    let linked = filled.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file(error)),
        _ => Ok(()),
    });
    fs::remove_file(&temporary).map_err(file)?;
    linked?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(file)?;
    parent.sync_all().map_err(file)
}

fn begins_as_ours(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut start = [0; MAGIC.len()];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) => Ok(start == MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The library checks every byte at every start, and says so instead of trusting a file that
/// was changed behind its back.
fn database(path: &Path, file: File) -> Result<Database, DiskError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder.set_check_integrity_on_open(true);
    let opened = FileBackend::new(file).and_then(|backend| builder.create_with_backend(backend));
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            DiskError::InUse(path.to_owned())
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.raw_os_error().is_some() => {
            DiskError::file(path, error)
        }
        other => DiskError::damaged(path, other),
    })
}
