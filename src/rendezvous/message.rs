//! The messages of the rendezvous protocol.
//!
//! Texts are bytes here. A registration's peer is bytes as well: see [`super::record`].

use bytes::Bytes;

use crate::fixed_limits::fixed_limit;

/// The protocol's name.
pub(super) const PROTOCOL: &str = "/rendezvous/1.0.0";

/// Longest request that is read, in bytes. A signed record of 64 addresses takes 4 KiB.
pub(super) const MAX_REQUEST: usize = 8 << 10;
fixed_limit!("rendezvous: request", bytes MAX_REQUEST);

/// Longest answer that is written or read, in bytes (rust-libp2p reads 1 MiB).
pub(super) const MAX_ANSWER: usize = 512 << 10;

/// Longest namespace in bytes (the specification's value).
pub(crate) const MAX_NAMESPACE: usize = 255;

/// How long a registration lasts that does not say it, in seconds (the specification's value).
pub(super) const DEFAULT_TTL: u64 = 2 * 60 * 60;

/// How long a registration may last, in seconds (the specification's value).
pub(super) const MAX_TTL: u64 = 72 * 60 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Register = 0,
    RegisterResponse = 1,
    Unregister = 2,
    Discover = 3,
    DiscoverResponse = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Status {
    Ok = 0,
    InvalidNamespace = 100,
    InvalidPeerRecord = 101,
    InvalidTtl = 102,
    InvalidCookie = 103,
    NotAuthorized = 200,
    InternalError = 300,
    Unavailable = 400,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Register {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) ns: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) peer: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) ttl: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RegisterResponse {
    #[prost(enumeration = "Status", optional, tag = "1")]
    pub(super) status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) text: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) ttl: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Unregister {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) ns: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) id: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Discover {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) ns: Option<Bytes>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) limit: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) cookie: Option<Bytes>,
    /// Of ours: the asker reads registrations of every form. Others pass it over.
    #[prost(bool, optional, tag = "1000")]
    pub(super) every_form: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DiscoverResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) registrations: Vec<Register>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) cookie: Option<Bytes>,
    #[prost(enumeration = "Status", optional, tag = "3")]
    pub(super) status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) text: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(enumeration = "Kind", optional, tag = "1")]
    pub(super) kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(super) register: Option<Register>,
    #[prost(message, optional, tag = "3")]
    pub(super) register_response: Option<RegisterResponse>,
    #[prost(message, optional, tag = "4")]
    pub(super) unregister: Option<Unregister>,
    #[prost(message, optional, tag = "5")]
    pub(super) discover: Option<Discover>,
    #[prost(message, optional, tag = "6")]
    pub(super) discover_response: Option<DiscoverResponse>,
}

impl Message {
    fn of(kind: Kind) -> Self {
        Self {
            kind: Some(kind.into()),
            ..Self::default()
        }
    }

    pub(super) fn register(ns: &str, peer: Bytes, ttl: u64) -> Self {
        Self {
            register: Some(Register {
                ns: Some(Bytes::copy_from_slice(ns.as_bytes())),
                peer: Some(peer),
                ttl: Some(ttl),
            }),
            ..Self::of(Kind::Register)
        }
    }

    pub(super) fn discover(ns: &str, limit: u64, cookie: Option<Bytes>) -> Self {
        Self {
            discover: Some(Discover {
                ns: Some(Bytes::copy_from_slice(ns.as_bytes())),
                limit: Some(limit),
                cookie,
                every_form: Some(true),
            }),
            ..Self::of(Kind::Discover)
        }
    }

    /// It has no answer.
    pub(super) fn unregister(ns: &str) -> Self {
        Self {
            unregister: Some(Unregister {
                ns: Some(Bytes::copy_from_slice(ns.as_bytes())),
                id: None,
            }),
            ..Self::of(Kind::Unregister)
        }
    }

    /// What came of a REGISTER: for how many seconds it lasts, or why it does not.
    pub(super) fn registered(result: Result<u64, (Status, &'static str)>) -> Self {
        let (status, text, ttl) = match result {
            Ok(ttl) => (Status::Ok, "", Some(ttl)),
            Err((status, text)) => (status, text, None),
        };
        Self {
            register_response: Some(RegisterResponse {
                status: Some(status.into()),
                text: written(text),
                ttl,
            }),
            ..Self::of(Kind::RegisterResponse)
        }
    }

    /// What came of a DISCOVER: who is there, and from where to ask on.
    pub(super) fn discovered(
        result: Result<(Vec<Register>, Bytes), (Status, &'static str)>,
    ) -> Self {
        let response = match result {
            Ok((registrations, cookie)) => DiscoverResponse {
                registrations,
                cookie: Some(cookie),
                status: Some(Status::Ok.into()),
                text: None,
            },
            Err((status, text)) => DiscoverResponse {
                registrations: Vec::new(),
                cookie: None,
                status: Some(status.into()),
                text: written(text),
            },
        };
        Self {
            discover_response: Some(response),
            ..Self::of(Kind::DiscoverResponse)
        }
    }
}

fn written(text: &'static str) -> Option<Bytes> {
    (!text.is_empty()).then_some(Bytes::from_static(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// As py-libp2p and rust-libp2p write them.
    #[test]
    fn messages_are_those_on_the_wire() {
        let register = Message::register("n", Bytes::from_static(b"peer"), 7200);
        let expected = [
            &[8, 0, 18, 12, 10, 1, b'n', 18, 4][..],
            b"peer",
            &[24, 0xa0, 0x38],
        ];
        assert_eq!(register.encode_to_vec(), expected.concat());
        let answer = Message::registered(Ok(7200)).encode_to_vec();
        assert_eq!(answer, [8, 1, 26, 5, 8, 0, 24, 0xa0, 0x38]);
        let refused = Message::registered(Err((Status::InvalidTtl, "no"))).encode_to_vec();
        assert_eq!(refused, [8, 1, 26, 6, 8, 102, 18, 2, b'n', b'o']);
        let discover = Message::discover("n", 5, None).encode_to_vec();
        assert_eq!(discover, [8, 3, 42, 8, 10, 1, b'n', 16, 5, 0xc0, 0x3e, 1]);
        let unregister = Message::unregister("n").encode_to_vec();
        assert_eq!(unregister, [8, 2, 34, 3, 10, 1, b'n']);
        let nobody = Message::discovered(Ok((Vec::new(), Bytes::from_static(b"c"))));
        assert_eq!(nobody.encode_to_vec(), [8, 4, 50, 5, 18, 1, b'c', 24, 0]);
    }
}
