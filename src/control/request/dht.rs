//! DHT requests (COMPATIBILITY.md 4.15).

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::{MISSING_PARAMETERS, Rejected, missing, peer_id, refuse, timeout};
use crate::wire::{cid, pb};

/// Providers asked for unless the client says otherwise.
const DEFAULT_PROVIDERS: usize = 20;

/// What a client asks the DHT.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) struct DhtRequest {
    pub(in crate::control) query: Query,
    pub(in crate::control) timeout: Duration,
}

/// The verbs of the DHT. Keys of providers are multihashes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) enum Query {
    FindPeer { peer: PeerId },
    FindProviders { key: Vec<u8>, count: usize },
    ClosestPeers { key: Vec<u8> },
    PublicKey { peer: PeerId },
    GetValue { key: Vec<u8> },
    SearchValue { key: Vec<u8> },
    PutValue { key: Vec<u8>, value: Vec<u8> },
    Provide { key: Vec<u8> },
}

impl Query {
    /// Its name in metrics.
    pub(in crate::control) fn verb(&self) -> &'static str {
        match self {
            Self::FindPeer { .. } => "find_peer",
            Self::FindProviders { .. } => "find_providers",
            Self::ClosestPeers { .. } => "get_closest_peers",
            Self::PublicKey { .. } => "get_public_key",
            Self::GetValue { .. } => "get_value",
            Self::SearchValue { .. } => "search_value",
            Self::PutValue { .. } => "put_value",
            Self::Provide { .. } => "provide",
        }
    }
}

/// Reads the sub-message. A field that is there and empty counts as there, as in Go.
pub(super) fn parse(request: Option<pb::DhtRequest>) -> Result<DhtRequest, Rejected> {
    use pb::dht_request::Type;
    let request = request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let kind = request.r#type.ok_or_else(|| missing("dht.type"))?;
    let kind = i32::try_from(kind)
        .ok()
        .and_then(|kind| Type::try_from(kind).ok())
        .ok_or_else(|| refuse("Unexpected request"))?;
    let peer = |bytes| peer_id(Some(given(bytes, "peer")?), "peer");
    let bytes = |bytes, name| given(bytes, name).map(Vec::from);
    let query = match kind {
        Type::FindPeer => Query::FindPeer {
            peer: peer(request.peer)?,
        },
        Type::FindPeersConnectedToPeer => return Err(refuse("not supported")),
        Type::FindProviders => Query::FindProviders {
            key: multihash(request.cid)?,
            count: request
                .count
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count > 0)
                .unwrap_or(DEFAULT_PROVIDERS),
        },
        Type::GetClosestPeers => Query::ClosestPeers {
            key: bytes(request.key, "key")?,
        },
        Type::GetPublicKey => Query::PublicKey {
            peer: peer(request.peer)?,
        },
        Type::GetValue => Query::GetValue {
            key: bytes(request.key, "key")?,
        },
        Type::SearchValue => Query::SearchValue {
            key: bytes(request.key, "key")?,
        },
        Type::PutValue => Query::PutValue {
            key: bytes(request.key, "key")?,
            value: bytes(request.value, "value")?,
        },
        Type::Provide => Query::Provide {
            key: multihash(request.cid)?,
        },
    };
    Ok(DhtRequest {
        query,
        timeout: timeout(request.timeout),
    })
}

fn given(field: Option<Bytes>, name: &str) -> Result<Bytes, Rejected> {
    field.ok_or_else(|| refuse(format!("Malformed request; missing {name} parameter")))
}

fn multihash(cid: Option<Bytes>) -> Result<Vec<u8>, Rejected> {
    let cid = given(cid, "cid")?;
    let multihash = cid::multihash_of(&cid).map_err(|error| refuse(error.to_string()))?;
    Ok(multihash.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(kind: pb::dht_request::Type) -> pb::DhtRequest {
        pb::DhtRequest {
            r#type: Some(i64::from(i32::from(kind))),
            ..pb::DhtRequest::default()
        }
    }

    fn refused(request: pb::DhtRequest) -> String {
        let rejected = parse(Some(request)).unwrap_err();
        assert!(!rejected.close);
        rejected.reason
    }

    #[test]
    fn what_is_missing_is_named_as_in_go() {
        use pb::dht_request::Type;
        for (kind, name) in [
            (Type::FindPeer, "peer"),
            (Type::FindProviders, "cid"),
            (Type::GetClosestPeers, "key"),
            (Type::GetPublicKey, "peer"),
            (Type::GetValue, "key"),
            (Type::SearchValue, "key"),
            (Type::PutValue, "key"),
            (Type::Provide, "cid"),
        ] {
            let expected = format!("Malformed request; missing {name} parameter");
            assert_eq!(refused(request(kind)), expected);
        }
        let put = pb::DhtRequest {
            key: Some(Bytes::new()),
            ..request(Type::PutValue)
        };
        assert_eq!(refused(put), "Malformed request; missing value parameter");
        assert_eq!(
            refused(request(Type::FindPeersConnectedToPeer)),
            "not supported"
        );
        let unknown = pb::DhtRequest {
            r#type: Some(9),
            ..pb::DhtRequest::default()
        };
        assert_eq!(refused(unknown), "Unexpected request");
        assert_eq!(parse(None).unwrap_err().reason, MISSING_PARAMETERS);
        let untyped = parse(Some(pb::DhtRequest::default())).unwrap_err();
        assert!(untyped.close, "a required field of the wire format");
    }

    #[test]
    fn bad_values_get_gos_words() {
        use pb::dht_request::Type;
        for kind in [Type::FindProviders, Type::Provide] {
            let cid = pb::DhtRequest {
                cid: Some(Bytes::from_static(b"\x12")),
                ..request(kind)
            };
            assert_eq!(
                refused(cid),
                "invalid cid: invalid cid: expected 1 as the cid version number, got: 18"
            );
        }
        for kind in [Type::FindPeer, Type::GetPublicKey] {
            let peer = pb::DhtRequest {
                peer: Some(Bytes::new()),
                ..request(kind)
            };
            assert_eq!(refused(peer), "multihash too short. must be >= 2 bytes");
        }
    }

    #[test]
    fn empty_fields_are_given_and_numbers_have_defaults() {
        use pb::dht_request::Type;
        let empty = Some(Bytes::new());
        let put = pb::DhtRequest {
            key: empty.clone(),
            value: empty,
            timeout: Some(7),
            ..request(Type::PutValue)
        };
        let expected = DhtRequest {
            query: Query::PutValue {
                key: Vec::new(),
                value: Vec::new(),
            },
            timeout: Duration::from_secs(7),
        };
        assert_eq!(parse(Some(put)).unwrap(), expected);
        let identity = [&[1, 0x55, 0, 1][..], b"x"].concat();
        for (given, used) in [
            (None, 20),
            (Some(0), 20),
            (Some(-1), 20),
            (Some(1), 1),
            (Some(i32::MAX), 0x7fff_ffff),
        ] {
            let providers = pb::DhtRequest {
                cid: Some(identity.clone().into()),
                count: given,
                ..request(Type::FindProviders)
            };
            let expected = DhtRequest {
                query: Query::FindProviders {
                    key: b"\x00\x01x".to_vec(),
                    count: used,
                },
                timeout: Duration::from_secs(60),
            };
            assert_eq!(parse(Some(providers)).unwrap(), expected);
        }
    }

    fn field(longest: usize) -> impl Strategy<Value = Option<Bytes>> {
        let bytes = prop::collection::vec(any::<u8>(), 0..longest);
        prop::option::of(bytes.prop_map(Bytes::from))
    }

    proptest! {
        #[test]
        fn any_parameters_are_read_or_refused(
            kind in prop::option::of(-1..11_i64),
            (peer, cid) in (field(45), field(45)),
            (key, value) in (field(9), field(9)),
            count in any::<Option<i32>>(),
            seconds in any::<Option<i64>>(),
        ) {
            let request = pb::DhtRequest {
                r#type: kind,
                peer,
                cid,
                key,
                value,
                count,
                timeout: seconds,
            };
            match parse(Some(request)) {
                Ok(request) => prop_assert!(request.timeout > Duration::ZERO),
                Err(rejected) => prop_assert_eq!(rejected.close, kind.is_none()),
            }
        }
    }
}
