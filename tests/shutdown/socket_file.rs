//! The control socket's file: private from the first moment, recovered, never stolen.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::daemon::binary_under_test;
use crate::support::{Daemon, Launch, PATIENCE};

fn at(path: &Path) -> Launch {
    Launch::new().listen(&format!("/unix{}", path.display()))
}

fn in_use(path: &Path) -> String {
    format!(
        "listen unix {}: bind: address already in use",
        path.display()
    )
}

#[test]
fn a_stale_socket_is_recovered_after_sigkill() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p2pd.sock");
    for _ in 0..5 {
        let mut daemon = at(&path).spawn();
        daemon.signal(rustix::process::Signal::KILL);
        assert!(daemon.wait(PATIENCE).is_some());
        assert!(path.exists(), "SIGKILL leaves the file: nothing to recover");
        assert!(UnixStream::connect(&path).is_err());
    }
    let _ = at(&path).spawn();
}

#[test]
fn a_live_socket_is_refused_and_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p2pd.sock");
    let first = at(&path).spawn();
    let inode = fs::metadata(&path).expect("the socket").ino();
    let refusal = at(&path).try_spawn().expect_err("a live socket");
    assert!(refusal.contains(&in_use(&path)), "{refusal}");
    assert!(refusal.contains("1"), "{refusal}");
    assert_eq!(fs::metadata(&path).expect("the socket").ino(), inode);
    let _ = first.client().identify();

    // Also one that takes no connection from its queue.
    let other = dir.path().join("other.sock");
    let _listener = UnixListener::bind(&other).expect("bind");
    let refusal = at(&other).try_spawn().expect_err("a live socket");
    assert!(refusal.contains(&in_use(&other)), "{refusal}");
    assert!(UnixStream::connect(&other).is_ok(), "it was unlinked");
}

#[test]
fn a_file_that_is_no_socket_is_refused_and_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "precious").expect("write");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).expect("link");
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink(dir.path().join("nothing"), &dangling).expect("link");
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).expect("a directory");
    for path in [&file, &link, &dangling, &folder] {
        let refusal = at(path).try_spawn().expect_err("no socket");
        assert!(refusal.contains(&in_use(path)), "{refusal}");
    }
    assert_eq!(fs::read_to_string(&file).expect("the file"), "precious");
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert!(
        fs::symlink_metadata(&dangling)
            .expect("the link")
            .is_symlink()
    );
    assert!(folder.is_dir());
}

#[test]
fn of_two_daemons_that_race_for_one_socket_one_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p2pd.sock");
    for round in 0..50 {
        // Every other time there is none to be recovered.
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).expect("a stale socket"));
        }
        let racers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| at(&path).try_spawn()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = racers.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1, "round {round}: {losers:?}");
        let refusal = losers[0].as_ref().expect_err("a loser");
        assert!(refusal.contains(&in_use(&path)), "{refusal}");
        let mut winner = winners
            .into_iter()
            .next()
            .and_then(Result::ok)
            .expect("a winner");
        let _ = winner.client().identify();
        winner.terminate(PATIENCE);
        assert!(!path.exists());
    }
}

#[test]
fn no_lock_of_others_holds_up_the_start() {
    use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p2pd.sock");
    let locked = |path: &Path, flags: OFlags| {
        let file = open(path, flags, Mode::RUSR | Mode::WUSR).expect("open");
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("the lock");
        file
    };
    // Whoever may read the directory can hold a lock on it.
    let directory = locked(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY);
    let started = std::time::Instant::now();
    at(&path).spawn().terminate(PATIENCE);
    drop(directory);
    // The lock of a daemon of the same user that has stopped.
    let own = locked(
        &dir.path().join("p2pd.sock.lock"),
        OFlags::RDWR | OFlags::CREATE,
    );
    let mut daemon = at(&path).spawn();
    let _ = daemon.client().identify();
    daemon.terminate(PATIENCE);
    drop(own);
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    assert!(!path.exists());
}

#[test]
fn a_socket_that_took_our_place_is_not_removed_at_exit() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p2pd.sock");
    let mut daemon = at(&path).spawn();
    fs::remove_file(&path).expect("unlink");
    let _other = UnixListener::bind(&path).expect("bind");
    daemon.terminate(PATIENCE);
    assert!(path.exists(), "the other's socket is gone");
}

/// Looks at `path` as fast as it can while `during` runs; every mode seen.
fn modes_seen(path: &Path, during: impl FnOnce()) -> (Vec<u32>, usize) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut modes, mut looks) = (Vec::new(), 0);
            let mut last = false;
            // Once more at the end: SIGKILL leaves the file.
            while !last {
                last = done.load(Ordering::Relaxed);
                if let Ok(meta) = fs::symlink_metadata(path) {
                    looks += 1;
                    let mode = meta.permissions().mode() & 0o7777;
                    if !modes.contains(&mode) {
                        modes.push(mode);
                    }
                }
            }
            (modes, looks)
        });
        during();
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher")
    })
}

#[test]
fn the_file_is_private_from_the_first_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut early = 0;
    for round in 0..10 {
        let path = dir.path().join(format!("{round}.sock"));
        let (modes, looks) = modes_seen(&path, || drop(at(&path).spawn()));
        early += usize::from(looks > 1);
        assert_eq!(modes, [0o600], "round {round}: {modes:?}");
    }
    assert!(early > 0, "nobody looked while a daemon started");
}

#[test]
fn listen_mode_and_group_widen_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("wide.sock");
    let gid = fs::metadata(dir.path()).expect("the directory").gid();
    let daemon = at(&path)
        .args(["-listenMode=0660".to_owned(), format!("-listenGroup={gid}")])
        .spawn();
    let meta = fs::metadata(&path).expect("the socket");
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
    assert_eq!(meta.gid(), gid);
    let _ = daemon.client().identify();

    for (flag, word) in [
        ("-listenMode=0999", "listenMode"),
        ("-listenGroup=no-such-group-here", "group"),
    ] {
        let refusal = at(&dir.path().join("no.sock")).args([flag]).try_spawn();
        let refusal = refusal.expect_err("a bad value");
        assert!(refusal.contains(word), "{refusal}");
        assert!(!dir.path().join("no.sock").exists());
    }
}

#[test]
fn a_directory_that_is_missing_and_a_path_too_long_are_told_as_in_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("none/p2pd.sock");
    let refusal = at(&missing).try_spawn().expect_err("no directory");
    assert!(
        refusal.contains("bind: no such file or directory"),
        "{refusal}"
    );
    let long = dir.path().join("x".repeat(200));
    let refusal = at(&long).try_spawn().expect_err("too long");
    assert!(refusal.contains("bind: invalid argument"), "{refusal}");
}

#[test]
fn the_umask_of_the_daemon_is_left_alone() {
    // The files of a daemon that widened its umask for good would be private to nobody.
    let daemon = Daemon::spawn(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
    let mask = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("Umask:"));
        line.map(str::to_owned).expect("an Umask line")
    };
    let ours = fs::read_to_string("/proc/self/status").expect("status");
    assert_eq!(mask(&status), mask(&ours));
    let mut probe = Command::new(binary_under_test())
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run -h");
    assert!(crate::support::eventually(Duration::from_secs(10), || {
        probe
            .try_wait()
            .ok()
            .flatten()
            .is_some_and(|status| status.success())
    }));
}
