//! Key files: made by `keygen`, loaded by `-id`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::rp2pd;
use crate::support::{Launch, PATIENCE};

fn keygen(path: &Path, kind: &str) -> crate::Run {
    let path = path.to_str().unwrap();
    rp2pd(["keygen", "-f", path, "-t", kind])
}

#[test]
fn every_type_goes_from_keygen_into_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, start) in [
        ("ed25519", "12D3KooW"),
        ("secp256k1", "16Uiu2HA"),
        ("ecdsa", "Qm"),
        ("rsa", "Qm"),
    ] {
        let path = dir.path().join(kind);
        let made = keygen(&path, kind);
        let told = format!("Key file: {}\n", path.display());
        assert_eq!((made.code, made.stderr), (0, told), "{kind}");
        let peer = made.stdout.strip_prefix("Peer ID: ").unwrap().trim_end();
        assert!(peer.starts_with(start), "{kind}: {peer}");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o400, "{kind}");

        let id = format!("-id={}", path.display());
        let mut daemon = Launch::new().args([id.as_str(), "-noListenAddrs"]).spawn();
        assert_eq!(daemon.peer_id().to_string(), peer, "{kind}");
        assert!(daemon.terminate(PATIENCE).success());
        assert_eq!(daemon.stderr(), "", "{kind}");
    }
}

#[test]
fn keygen_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    assert_eq!(keygen(&path, "ed25519").code, 0);
    let before = std::fs::read(&path).unwrap();
    let again = keygen(&path, "ed25519");
    again.assert_refused(&format!("open {}: file exists", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn keygen_refuses_what_it_cannot_make() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let bad = keygen(&path, "dsa");
    assert_eq!(
        (bad.code, bad.first_line()),
        (
            1,
            "Unknown key type dsa; must be rsa, ed25519, secp256k1 or ecdsa"
        )
    );
    let small = rp2pd(["keygen", "-f", path.to_str().unwrap(), "-b=1024"]);
    assert_eq!(small.code, 1);
    assert_eq!(rp2pd(["keygen", "-b=x"]).code, 2);
    let help = rp2pd(["keygen", "-h"]);
    assert_eq!((help.code, help.stderr.starts_with("Usage of ")), (0, true));
    let nowhere = keygen(Path::new("/nonexistent/key"), "ed25519");
    nowhere.assert_refused("open /nonexistent/key: no such file or directory");
    assert!(!path.exists());
}

#[test]
fn loose_permissions_are_told_and_bad_keys_refused_in_gos_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let id = format!("-id={}", path.display());
    let validate = || rp2pd(["-validate", "-noListenAddrs", &id]);
    assert_eq!(keygen(&path, "ed25519").code, 0);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let loose = validate();
    let shown = path.display();
    assert_eq!(loose.code, 0);
    assert_eq!(
        loose.timed_lines(),
        [format!(
            "key file {shown} is open to others: mode 0644, 0400 is enough"
        )]
    );
    for (bytes, text) in [
        (
            &b""[..],
            "proto: required field crypto.pb.PrivateKey.Type not set",
        ),
        (b"garbage", "proto: cannot parse invalid wire-format data"),
        (
            b"\x08\x01",
            "proto: required field crypto.pb.PrivateKey.Data not set",
        ),
        (b"\x08\x09\x12\x00", "invalid or unsupported key type"),
        (
            b"\x08\x01\x12\x01a",
            "expected ed25519 data size to be 64 or 96, got 1",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let bad = validate();
        bad.assert_refused(text);
        assert_eq!(bad.timed_lines().len(), 1);
    }
}

#[test]
fn a_missing_key_file_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let id = format!("-id={}", path.display());
    let start = || {
        let words = [id.as_str(), "-createIdentity", "-noListenAddrs"];
        Launch::new().args(words).spawn()
    };
    let mut first = start();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
    let before = std::fs::read(&path).unwrap();
    assert!(first.terminate(PATIENCE).success());
    let again = start();
    assert_eq!(again.peer_id(), first.peer_id());
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let nowhere = rp2pd(["-id=/nonexistent/key", "-createIdentity", "-noListenAddrs"]);
    nowhere.assert_refused("open /nonexistent/key: no such file or directory");
}
