//! The messages of AutoNAT v1.

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use crate::fixed_limits::fixed_limit;

/// Longest message, in bytes (go-libp2p).
pub(super) const MAX_MESSAGE: usize = 4096;
fixed_limit!("AutoNAT: message", bytes MAX_MESSAGE);

/// What a message may take in memory once it is read: an entry of two bytes takes 32.
pub(super) const MESSAGE_COST: usize = 32 * MAX_MESSAGE;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Dial = 0,
    DialResponse = 1,
}

/// What came of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Status {
    Ok = 0,
    DialError = 100,
    DialRefused = 101,
    BadRequest = 200,
    InternalError = 300,
}

impl Status {
    /// Its name in metrics, which is go-libp2p's.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::DialError => "dial error",
            Self::DialRefused => "dial refused",
            Self::BadRequest => "bad request",
            Self::InternalError => "internal error",
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PeerInfo {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) id: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) addrs: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dial {
    #[prost(message, optional, tag = "1")]
    pub(super) peer: Option<PeerInfo>,
}

/// The text is bytes here: it is not looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialResponse {
    #[prost(enumeration = "Status", optional, tag = "1")]
    pub(super) status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) text: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) addr: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(enumeration = "Kind", optional, tag = "1")]
    pub(super) kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(super) dial: Option<Dial>,
    #[prost(message, optional, tag = "3")]
    pub(super) response: Option<DialResponse>,
}

impl Message {
    /// Asks to be dialed at `addresses`.
    pub(super) fn ask(peer: PeerId, addresses: &[Multiaddr]) -> Self {
        let addrs = addresses.iter().map(|address| address.to_vec().into());
        Self {
            kind: Some(Kind::Dial.into()),
            dial: Some(Dial {
                peer: Some(PeerInfo {
                    id: Some(peer.to_bytes().into()),
                    addrs: addrs.collect(),
                }),
            }),
            response: None,
        }
    }

    /// Says what came of a dial; `addr` is the address that answered.
    pub(super) fn answer(status: Status, text: &'static str, addr: Option<&Multiaddr>) -> Self {
        Self {
            kind: Some(Kind::DialResponse.into()),
            dial: None,
            response: Some(DialResponse {
                status: Some(status.into()),
                text: (!text.is_empty()).then_some(Bytes::from_static(text.as_bytes())),
                addr: addr.map(|addr| addr.to_vec().into()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// As go-libp2p writes them: the kind is told even where it is the default.
    #[test]
    fn messages_are_those_on_the_wire() {
        let peer = PeerId::random();
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().unwrap();
        let asked = Message::ask(peer, std::slice::from_ref(&address)).encode_to_vec();
        assert_eq!(asked[..3], [0x08, 0x00, 0x12]);
        let text = "dial failed";
        let answer = Message::answer(Status::DialError, text, None).encode_to_vec();
        let expected = [
            &[0x08, 1, 0x1a, 15, 0x08, 100, 0x12, 11][..],
            text.as_bytes(),
        ]
        .concat();
        assert_eq!(answer, expected);
        let many = vec![address; 16];
        assert!(Message::ask(peer, &many).encoded_len() < MAX_MESSAGE);
    }
}
