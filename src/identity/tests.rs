use std::os::unix::fs::OpenOptionsExt;

use proptest::prelude::*;

use super::*;

fn refused(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

fn ed25519_data() -> Vec<u8> {
    let pair = ed25519::Keypair::generate();
    pair.to_bytes().to_vec()
}

/// The right-hand sides were printed by both Go daemons.
#[test]
fn refusals_are_worded_as_in_go() {
    assert_eq!(
        refused(b""),
        "proto: required field crypto.pb.PrivateKey.Type not set"
    );
    assert_eq!(
        refused(b"garbage"),
        "proto: cannot parse invalid wire-format data"
    );
    assert_eq!(
        refused(b"\x12\x00"),
        "proto: required field crypto.pb.PrivateKey.Type not set"
    );
    assert_eq!(
        refused(b"\x08\x01"),
        "proto: required field crypto.pb.PrivateKey.Data not set"
    );
    assert_eq!(
        refused(b"\x08\x07\x12\x00"),
        "invalid or unsupported key type"
    );
    assert_eq!(
        refused(b"\x08\x01\x12\x01a"),
        "expected ed25519 data size to be 64 or 96, got 1"
    );
    assert_eq!(
        refused(b"\x08\x01\x12\x05a"),
        "proto: cannot parse invalid wire-format data"
    );
    assert_eq!(
        refused(b"\x08\x02\x12\x01a"),
        "expected secp256k1 data size to be 32"
    );
    let mut twice = ed25519_data();
    twice.extend_from_within(32..63);
    twice.push(!twice[63]);
    assert_eq!(
        refused(&encode(key_type::ED25519, &twice)),
        "expected redundant ed25519 public key to be redundant"
    );
}

#[test]
fn keys_that_cannot_work_are_refused() {
    let mut other = ed25519_data();
    other[..32].copy_from_slice(&ed25519_data()[..32]);
    assert_eq!(
        refused(&encode(key_type::ED25519, &other)),
        "ed25519 public key does not belong to the private key"
    );
    assert!(refused(&encode(key_type::SECP256K1, &[0; 32])).starts_with("invalid secp256k1 key: "));
    assert!(refused(&encode(key_type::ECDSA, b"a")).starts_with("invalid ecdsa key: "));
    assert!(refused(&encode(key_type::RSA, b"a")).starts_with("invalid rsa key: "));
}

#[test]
fn small_rsa_keys_are_refused_in_gos_words() {
    use rsa::pkcs1::EncodeRsaPrivateKey;
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let der = key.to_pkcs1_der().unwrap();
    assert_eq!(
        refused(&encode(key_type::RSA, der.as_bytes())),
        "rsa keys must be >= 2048 bits to be useful"
    );
}

#[test]
fn both_forms_of_ed25519_are_one_key() {
    let mut data = ed25519_data();
    let short = decode(&encode(key_type::ED25519, &data)).unwrap();
    data.extend_from_within(32..);
    let long = decode(&encode(key_type::ED25519, &data)).unwrap();
    assert_eq!(short.public(), long.public());
    // Fields that are not known are skipped.
    let mut extended = encode(key_type::ED25519, &data).to_vec();
    extended.extend_from_slice(b"\x1a\x01x");
    assert_eq!(decode(&extended).unwrap().public(), long.public());
}

#[test]
fn every_type_is_made_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["rsa", "ed25519", "secp256k1", "ecdsa"] {
        let path = dir.path().join(kind);
        let args = KeygenArgs {
            file: path.clone(),
            key_type: kind.into(),
            ..KeygenArgs::default()
        };
        let peer = generate(&args).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.keypair.public().to_peer_id(), peer, "{kind}");
        assert_eq!(loaded.warning, None, "{kind}");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o400, "{kind}");
        let before = std::fs::read(&path).unwrap();
        let error = generate(&args).unwrap_err().to_string();
        assert_eq!(error, format!("open {}: file exists", path.display()));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_dangling_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (link, target) = (dir.path().join("link"), dir.path().join("target"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let args = KeygenArgs {
        file: link,
        key_type: "ed25519".into(),
        ..KeygenArgs::default()
    };
    assert!(generate(&args).is_err());
    assert!(!target.exists());
}

#[test]
fn unknown_types_and_sizes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let make = |key_type: &str, bits| {
        let args = KeygenArgs {
            file: path.clone(),
            key_type: key_type.into(),
            bits,
        };
        generate(&args).unwrap_err().to_string()
    };
    assert_eq!(
        make("dsa", 2048),
        "Unknown key type dsa; must be rsa, ed25519, secp256k1 or ecdsa"
    );
    for bits in [i64::MIN, -1, 0, 1024, 2049, 8192, i64::MAX] {
        assert!(
            make("rsa", bits).starts_with("rsa keys must have 2048 to 4096 bits"),
            "{bits}"
        );
    }
    assert!(!path.exists());
}

#[test]
fn loose_permissions_are_told_and_missing_files_worded_as_in_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let mut file = std::fs::OpenOptions::new();
    let file = file
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    std::fs::write(&path, &*encode(key_type::ED25519, &ed25519_data())).unwrap();
    assert_eq!(load(&path).unwrap().warning, None);
    file.set_permissions(std::fs::Permissions::from_mode(0o640))
        .unwrap();
    let warning = load(&path).unwrap().warning.unwrap();
    let shown = path.display();
    assert_eq!(
        warning,
        format!("key file {shown} is open to others: mode 0640, 0400 is enough")
    );

    let text = |path: &Path| load(path).unwrap_err().to_string();
    let none = dir.path().join("none");
    assert_eq!(
        text(&none),
        format!("open {}: no such file or directory", none.display())
    );
    let dir = dir.path();
    assert_eq!(text(dir), format!("read {}: is a directory", dir.display()));
    let zero = text(Path::new("/dev/zero"));
    assert_eq!(
        zero,
        "read /dev/zero: larger than any key file (65536 bytes)"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        kind in 0..5_i32, data in prop::collection::vec(any::<u8>(), 0..100), cut in 0..200_usize,
    ) {
        let mut bytes = encode(kind, &data).to_vec();
        bytes.truncate(cut);
        let _ = decode(&bytes);
    }
}
