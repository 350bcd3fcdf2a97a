//! One daemon at a time looks at a socket file and replaces it.
//!
//! The lock is a file of this user's own beside the socket. A lock on the directory would do for
//! the race, but every user who may read the directory can hold that for ever.

use std::{
    ffi::OsString,
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fstat},
    io::Errno,
};

/// How long the lock is waited for. Its holder needs a few milliseconds; if it has stopped, the
/// start goes on without the lock.
const WAIT: Duration = Duration::from_secs(2);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// The lock beside a socket, for as long as it lives. The file goes with it.
#[derive(Debug)]
pub(in crate::control) struct StartLock {
    path: PathBuf,
    _file: OwnedFd,
}

impl Drop for StartLock {
    fn drop(&mut self) {
        // Whoever waits for it sees that its file has gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

impl StartLock {
    /// Waits for the lock of the socket at `path`, for two seconds at most. `None` if there is
    /// none to be had: it only settles a race of two starts.
    pub(in crate::control) fn wait(path: &Path) -> Option<Self> {
        let deadline = Instant::now() + WAIT;
        let path = beside(path);
        loop {
            match attempt(&path) {
                Ok(Some(file)) => return Some(Self { path, _file: file }),
                Ok(None) if Instant::now() < deadline => sleep(PAUSE),
                Ok(None) => return None,
                Err(_) => return None,
            }
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".lock");
    name.into()
}

/// Takes the lock; `None` if another process has it.
fn attempt(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)?;
    let own = fstat(&file)?;
    if own.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // The holder before may have removed the file that was opened.
    let current = fs::symlink_metadata(path);
    let is_current = current.is_ok_and(|meta| meta.ino() == own.st_ino && meta.dev() == own.st_dev);
    Ok(is_current.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it_and_nothing_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let held = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _lock = StartLock::wait(&path).expect("the lock");
                    assert_eq!(held.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    sleep(Duration::from_millis(2));
                    held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let target = dir.path().join("target");
        std::os::unix::fs::symlink(&target, beside(&path)).expect("a link");
        assert!(StartLock::wait(&path).is_none());
        assert!(!target.exists());
    }
}
