//! `-datastore`: made, found again, or refused with a word on what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::rp2pd;
use crate::support::{Launch, PATIENCE, eventually};

fn flag(path: &Path) -> String {
    format!("-datastore={}", path.display())
}

#[test]
fn a_datastore_is_made_and_opens_again_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let start = || {
        let store = flag(&path);
        let words = ["-dhtServer", "-noListenAddrs", &store];
        Launch::new().args(words).spawn()
    };
    let mut daemon = start();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    daemon.signal(Signal::KILL);
    daemon.wait(PATIENCE).expect("the end");
    let mut daemon = start();
    assert!(daemon.terminate(PATIENCE).success());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_bad_datastore_ends_the_start_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let refused = |path: &Path| {
        let listen = format!("-listen=/unix{}", socket.display());
        let run = rp2pd(["-dhtServer", "-noListenAddrs", &listen, &flag(path)]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(!socket.exists(), "the socket is left behind");
        let line = run.timed_lines().pop().unwrap().to_owned();
        line.replace(path.to_str().unwrap(), "PATH")
    };
    let hint = "it must be a file that the daemon may read and write, in a directory that exists";
    assert_eq!(
        refused(dir.path()),
        format!("datastore PATH: is a directory: {hint}")
    );
    let text = dir.path().join("text");
    std::fs::write(&text, "text").unwrap();
    assert_eq!(
        refused(&text),
        "datastore PATH is another program's file: name one that does not exist yet"
    );
    let path = dir.path().join("store");
    let store = flag(&path);
    let words = ["-dhtServer", "-noListenAddrs", &store];
    let mut daemon = Launch::new().args(words).spawn();
    assert_eq!(
        refused(&path),
        "datastore PATH is in use by another daemon: give each one its own"
    );
    assert!(daemon.terminate(PATIENCE).success());
}

#[test]
fn without_a_dht_it_is_told_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = flag(&path);
    let daemon = Launch::new().args(["-noListenAddrs", &store]).spawn();
    // The banner is read from another pipe, and may come first.
    let told = || daemon.stderr().contains("without effect: -datastore");
    assert!(eventually(PATIENCE, told), "{}", daemon.stderr());
    assert!(!path.exists());
}
