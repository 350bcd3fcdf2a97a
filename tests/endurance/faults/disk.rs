//! A disk without room, and one that may not be written to.

use std::path::Path;
use std::process::Command;

use super::shell;
use crate::support::daemon::binary_under_test;
use crate::support::dht::fresh_public_key_record;
use crate::support::{Launch, PATIENCE, eventually, raw};

const FULL: &str = "no space left on device";

/// A file system of its own on `dir`, of `kib` KiB.
fn mount(dir: &Path, kib: u32) {
    shell(&format!(
        "mount -t tmpfs -o size={kib}k none {}",
        dir.display()
    ));
}

/// Leaves no room on the file system of `dir`.
fn fill(dir: &Path) {
    let filler = dir.join("filler");
    // It ends when there is no room left, with an error.
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", filler.display()))
        .output()
        .expect("dd");
    let said = String::from_utf8_lossy(&filled.stderr).to_lowercase();
    assert!(said.contains(FULL), "not full: {said}");
}

pub fn without_room_or_rights() {
    let dir = tempfile::tempdir().expect("a directory");
    mount(dir.path(), 1024);
    logs_go_to_stderr(dir.path());
    keys_are_refused(dir.path());
    shell(&format!("umount {}", dir.path().display()));
    mount(dir.path(), 4096);
    a_datastore_goes_on_in_memory(dir.path());
    shell(&format!("mount -o remount,ro {}", dir.path().display()));
    sockets_are_refused(dir.path());
    shell(&format!("umount {}", dir.path().display()));
}

fn logs_go_to_stderr(dir: &Path) {
    let log = dir.join("log");
    let daemon = Launch::new()
        .args(["-noListenAddrs"])
        .env("GOLOG_FILE", log.to_str().expect("a path"))
        .env("GOLOG_OUTPUT", "file")
        .env("GOLOG_LOG_LEVEL", "debug")
        .spawn();
    fill(dir);
    let told = || daemon.stderr().matches("logs go to stderr").count();
    let degraded = eventually(PATIENCE, || {
        let mut client = daemon.client();
        let _ = client.send_raw(&raw::varint(1 << 40));
        let _ = daemon.client().identify();
        told() > 0
    });
    assert!(degraded, "{}", daemon.stderr());
    for _ in 0..50 {
        let _ = daemon.client().identify();
    }
    assert_eq!(told(), 1, "{}", daemon.stderr());
    assert!(daemon.stderr().contains(FULL), "{}", daemon.stderr());
    println!(
        "log file: {}",
        daemon.stderr().lines().next().unwrap_or_default()
    );
}

/// Runs the program, which is to fail with 1, and returns its last line.
fn fails(words: &[&str]) -> String {
    let output = Command::new(binary_under_test())
        .args(words)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.trim_end()
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

fn keys_are_refused(dir: &Path) {
    let key = dir.join("identity");
    let path = key.display().to_string();
    let said = fails(&["keygen", "-f", &path]);
    assert!(said.contains(FULL), "{said}");
    println!("keygen: {said}");
    let socket = tempfile::tempdir().expect("a directory");
    let listen = format!("-listen=/unix{}/socket", socket.path().display());
    let said = fails(&[
        "-noListenAddrs",
        &listen,
        &format!("-id={path}"),
        "-createIdentity",
    ]);
    assert!(said.contains(FULL), "{said}");
    println!("-createIdentity: {said}");
    assert!(!key.exists(), "half a key is left");
}

fn a_datastore_goes_on_in_memory(dir: &Path) {
    let store = format!("-datastore={}", dir.join("store").display());
    let mut daemon = Launch::new()
        .args(["-dhtServer", "-noListenAddrs", &store])
        .env("GOLOG_LOG_LEVEL", "warn")
        .spawn();
    fill(dir);
    let mut records = Vec::new();
    let lost = eventually(2 * PATIENCE, || {
        let (key, value) = fresh_public_key_record();
        // Nobody else to store it; here it is stored.
        let _ = daemon.client().put_value(&key, &value);
        records.push((key, value));
        daemon.stderr().contains("datastore lost")
    });
    assert!(
        lost,
        "{} records and no word: {}",
        records.len(),
        daemon.stderr()
    );
    for _ in 0..50 {
        let (key, value) = fresh_public_key_record();
        let _ = daemon.client().put_value(&key, &value);
        records.push((key, value));
    }
    for (key, value) in &records {
        assert_eq!(daemon.client().get_value(key).as_ref(), Ok(value));
    }
    println!(
        "datastore: lost, {} records served from memory",
        records.len()
    );
    assert!(daemon.terminate(PATIENCE).success());
}

fn sockets_are_refused(dir: &Path) {
    let listen = format!("-listen=/unix{}/socket", dir.display());
    let said = fails(&["-noListenAddrs", &listen]);
    assert!(said.contains("read-only file system"), "{said}");
    println!("socket: {said}");
}
