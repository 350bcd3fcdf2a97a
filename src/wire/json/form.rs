//! Bytes as people write them. Each text stands for the bytes that it came from: where that cannot
//! be, they are in base64.

use libp2p::PeerId;
use multibase::Base;

use super::schema::Form;
use crate::{
    fixed_limits::fixed_limit,
    wire::maddr::{ControlAddr, multiaddr_from_bytes, parse_multiaddr},
};

/// Bytes of the text of an id or a CID: the time to read base58 grows with the square of its length.
const MAX_ID: usize = 512;
fixed_limit!("peer id or CID in JSON", bytes MAX_ID);

/// Bytes of the text of an address, which may hold ids.
const MAX_ADDRESS: usize = 2048;
fixed_limit!("address in JSON", bytes MAX_ADDRESS);

/// How an address of a socket begins in bytes: `/unix`.
const UNIX: [u8; 2] = [0x90, 0x03];

/// The text of `bytes`, if they have one of this form.
pub(super) fn text(form: Form, bytes: &[u8]) -> Option<String> {
    let text = match form {
        Form::Data => return Some(base64(bytes)),
        Form::Text => return std::str::from_utf8(bytes).ok().map(str::to_owned),
        Form::Json | Form::Cid => return None,
        Form::Peer => PeerId::from_bytes(bytes).ok()?.to_base58(),
        Form::Address if bytes.starts_with(&UNIX) => {
            ControlAddr::from_bytes(bytes).ok()?.to_string()
        }
        Form::Address => multiaddr_from_bytes(bytes).ok()?.to_string(),
    };
    (read(form, &text).is_some_and(|again| again == bytes)).then_some(text)
}

/// The bytes that `text` stands for.
pub(super) fn read(form: Form, text: &str) -> Option<Vec<u8>> {
    let max = match form {
        Form::Peer | Form::Cid => MAX_ID,
        Form::Address => MAX_ADDRESS,
        Form::Data | Form::Text | Form::Json => usize::MAX,
    };
    if text.len() > max {
        return None;
    }
    match form {
        Form::Data => from_base64(text),
        Form::Text => Some(text.as_bytes().to_vec()),
        Form::Json => None,
        Form::Peer => text.parse::<PeerId>().ok().map(|peer| peer.to_bytes()),
        Form::Address if text.starts_with("/unix/") => {
            ControlAddr::parse(text).ok().map(|addr| addr.to_bytes())
        }
        Form::Address => parse_multiaddr(text).ok().map(|addr| addr.to_vec()),
        Form::Cid if text.starts_with("Qm") => Base::Base58Btc.decode(text).ok(),
        Form::Cid => multibase::decode(text).ok().map(|(_, bytes)| bytes),
    }
}

/// What was to be written in this form.
pub(super) fn expected(form: Form) -> &'static str {
    match form {
        Form::Data => "base64",
        Form::Text => "text",
        Form::Peer => "a peer id",
        Form::Address => "a multiaddr",
        Form::Cid => "a CID",
        Form::Json => "{\"base64\": ...}",
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    Base::Base64Pad.encode(bytes)
}

/// With padding or without.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base::Base64.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_addresses_are_bounded() {
        let long = |begin: &str| format!("{begin}{}", "2".repeat(80_000));
        for (form, text) in [
            (Form::Cid, long("Qm")),
            (Form::Cid, long("z")),
            (Form::Peer, long("1")),
            (Form::Address, long("/p2p/1")),
        ] {
            assert_eq!(read(form, &text), None);
        }
        assert!(read(Form::Cid, &"z".repeat(MAX_ID)).is_some());
        assert!(read(Form::Cid, &"z".repeat(MAX_ID + 1)).is_none());
        let path = |len: usize| format!("/unix/{}", "a".repeat(len - "/unix/".len()));
        assert!(read(Form::Address, &path(MAX_ADDRESS)).is_some());
        assert!(read(Form::Address, &path(MAX_ADDRESS + 1)).is_none());
    }
}
