//! Files that are refused, damaged or made anew.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
};

use proptest::prelude::*;
use redb::Database;

use super::*;

fn refused(path: &Path) -> String {
    let error = Disk::open(path).unwrap_err();
    error.to_string().replace(path.to_str().unwrap(), "PATH")
}

#[test]
fn refusals_say_what_to_do() {
    let (dir, path) = dir();
    let hint = "it must be a file that the daemon may read and write, in a directory that exists";
    assert_eq!(
        refused(dir.path()),
        format!("datastore PATH: is a directory: {hint}")
    );
    assert_eq!(
        refused(&path.join("below")),
        format!("datastore PATH: no such file or directory: {hint}")
    );
    let foreign = "datastore PATH is another program's file: name one that does not exist yet";
    for content in [&b""[..], b"redb", b"#!/bin/sh\nexit 0\n"] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(refused(&path), foreign);
        assert_eq!(fs::read(&path).unwrap(), content, "untouched");
    }
    fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(refused(&path), foreign);
    assert_eq!(refused(Path::new("/dev/null")), foreign);
    fs::remove_file(&path).unwrap();

    let (disk, _) = Disk::open(&path).unwrap();
    assert_eq!(
        refused(&path),
        "datastore PATH is in use by another daemon: give each one its own"
    );
    drop(disk);
    fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
    assert_eq!(
        refused(&path),
        "datastore PATH can be changed by others: mode 0620, 0600 is enough"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length / 2).unwrap();
    let text = refused(&path);
    assert!(text.starts_with("datastore PATH is damaged ("), "{text}");
    assert!(
        text.ends_with("): move it away to start with an empty one"),
        "{text}"
    );
}

#[test]
fn a_full_disk_at_the_start_gets_advice_of_its_own() {
    let full = DiskError::file(Path::new("PATH"), io::Error::from_raw_os_error(28));
    assert_eq!(
        full.to_string(),
        "datastore PATH: no space left on device: make room, or name another place"
    );
}

#[test]
fn a_new_file_is_its_owners_alone_and_leaves_nothing_beside_it() {
    let (dir, path) = dir();
    let disk = Disk::open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    drop(disk);
}

/// A store of some size, and what it holds.
fn filled() -> (Vec<u8>, Contents) {
    let (_dir, path) = dir();
    let (disk, _) = Disk::open(&path).unwrap();
    for key in 0..300_u32 {
        let value = Bytes::from(vec![7; key as usize]);
        disk.put_record(ChangeOrigin::Client, &key.to_be_bytes(), &value, ago(1));
        disk.put_provider(
            ChangeOrigin::Peer,
            &key.to_be_bytes(),
            peer(),
            &addresses(2),
            ago(1),
        );
    }
    drop(disk);
    let (disk, contents) = Disk::open(&path).unwrap();
    drop(disk);
    (fs::read(&path).unwrap(), contents)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever happened to the file: all that was in it, or a refusal.
    #[test]
    fn a_damaged_file_is_refused_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        keep in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        static FILLED: std::sync::LazyLock<(Vec<u8>, Contents)> =
            std::sync::LazyLock::new(filled);
        let (bytes, contents) = &*FILLED;
        let mut bytes = bytes.clone();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bit;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        let (_dir, path) = dir();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if let Ok((_disk, read)) = Disk::open(&path) {
            prop_assert_eq!(&read, contents);
        }
    }
}
