//! Fuzz target: key files.

/// A key file. Whatever is read as a key signs, and is read again from what it is written as.
pub(crate) fn keys(data: &[u8]) {
    let Ok(keypair) = super::decode(data) else {
        return;
    };
    let signature = keypair.sign(b"text");
    assert!(
        signature.is_ok_and(|signature| keypair.public().verify(b"text", &signature)),
        "a key that was read signs"
    );
}
