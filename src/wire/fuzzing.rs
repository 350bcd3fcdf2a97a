//! Fuzz target: addresses, hashes and content ids.

use libp2p::multiaddr::Protocol;

use super::{
    cid,
    maddr::{ControlAddr, multiaddr_from_bytes, parse_multiaddr},
    multihash,
};

/// The bytes as an address in both forms, a hash and a content id. What is read prints as what
/// reads the same.
pub(crate) fn addresses(data: &[u8]) {
    if let Ok(addr) = ControlAddr::from_bytes(data) {
        let again = ControlAddr::from_bytes(&addr.to_bytes());
        assert!(again.is_ok_and(|again| again == addr), "bytes: {addr}");
    }
    if let Ok(addr) = multiaddr_from_bytes(data) {
        let again = multiaddr_from_bytes(&addr.to_vec());
        assert!(again.is_ok_and(|again| again == addr), "bytes: {addr}");
    }
    if let Ok(hash) = multihash::decode(data) {
        assert!(
            data.ends_with(hash.digest),
            "a digest is the end of its hash"
        );
    }
    if let Ok(hash) = cid::multihash_of(data) {
        assert!(multihash::decode(hash).is_ok(), "a content id holds a hash");
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(addr) = ControlAddr::parse(text) {
        let again = ControlAddr::parse(&addr.to_string());
        assert!(again.is_ok_and(|again| again == addr), "text: {addr}");
    }
    if let Ok(addr) = parse_multiaddr(text) {
        // The library prints the path of a unix socket with a slash more than it reads.
        if !addr.iter().any(|part| matches!(part, Protocol::Unix(_))) {
            let again = parse_multiaddr(&addr.to_string());
            assert!(again.is_ok_and(|again| again == addr), "text: {addr}");
        }
    }
}

/// A request as JSON, whose name is before the first line end; and an answer of the same bytes.
pub(crate) fn json(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n');
    let (verb, part) = data.split_at(cut.unwrap_or(0));
    super::json::fuzz(&String::from_utf8_lossy(verb), part);
}
