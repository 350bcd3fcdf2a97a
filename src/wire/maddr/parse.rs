//! Any multiaddr, with the error texts of go-multiaddr.

use std::num::IntErrorKind;

use libp2p::multiaddr::{self, Protocol};
use libp2p::{Multiaddr, PeerId};
use multibase::Base;
use unsigned_varint::decode;

use super::UNIX;
use crate::wire::multihash;
use crate::wording::quote;

/// The multicodec of a public key in a CID, the other text form of a peer id.
const LIBP2P_KEY: u64 = 0x72;

/// Why an address is refused, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaddrError {
    /// The text is no multiaddr.
    #[error("failed to parse multiaddr {}: {reason}", quote(.text))]
    Text {
        /// What was given, without slashes at the end.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No bytes at all.
    #[error("empty multiaddr")]
    Empty,
    /// The bytes are no multiaddr.
    #[error("{0}")]
    Bytes(String),
    /// A multiaddr, but no socket that a control or handler connection can use.
    #[error("{0}")]
    Unusable(String),
}

/// Reads the text form of a libp2p address.
///
/// # Errors
/// [`MaddrError::Text`], worded as Go does.
pub fn parse_multiaddr(text: &str) -> Result<Multiaddr, MaddrError> {
    let text = text.trim_end_matches('/');
    parse_parts(text).map_err(|reason| MaddrError::Text {
        text: text.to_owned(),
        reason,
    })
}

fn parse_parts(text: &str) -> Result<Multiaddr, String> {
    let mut parts = text.split('/');
    if parts.next() != Some("") {
        return Err("must begin with /".into());
    }
    if text.is_empty() {
        return Err("empty multiaddr".into());
    }
    let mut addr = Multiaddr::empty();
    while let Some(name) = parts.clone().next() {
        let value = parts.clone().nth(1);
        let protocol = match (name, value) {
            // Go lets a path run to the end of the text; the library takes one word.
            ("unix", Some(_)) => {
                let path: Vec<&str> = parts.by_ref().skip(1).collect();
                Protocol::Unix(format!("/{}", path.join("/")).into())
            }
            ("p2p" | "ipfs", Some(id)) => {
                let peer = peer_id(id).map_err(|reason| {
                    invalid_value(
                        "p2p",
                        id,
                        &format!("failed to parse p2p addr: {id} {reason}"),
                    )
                })?;
                parts.nth(1);
                Protocol::P2p(peer)
            }
            _ => Protocol::from_str_parts(&mut parts)
                .map_err(|error| text_reason(name, value, &error))?,
        };
        addr.push(protocol);
    }
    Ok(addr)
}

fn invalid_value(name: &str, value: &str, reason: &str) -> String {
    format!(
        "invalid value {} for protocol {name}: {reason}",
        quote(value)
    )
}

fn text_reason(name: &str, value: Option<&str>, error: &multiaddr::Error) -> String {
    if let multiaddr::Error::UnknownProtocolString(name) = error {
        return format!("unknown protocol {name}");
    }
    let Some(value) = value else {
        return "unexpected end of multiaddr".into();
    };
    let reason = match name {
        "ip4" | "ip6" => format!("failed to parse {name} addr: {value}"),
        "tcp" | "udp" | "dccp" | "sctp" => {
            format!("failed to parse port addr: {}", bad_port(value))
        }
        _ => cause(error),
    };
    invalid_value(name, value, &reason)
}

/// The library's own words, without the prefix that repeats ours.
fn cause(error: &multiaddr::Error) -> String {
    match error {
        multiaddr::Error::ParsingError(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

fn bad_port(value: &str) -> String {
    match value.parse::<i64>() {
        Ok(port) if port > 0 => "greater than 65536".into(),
        Ok(_) => "less than 0".into(),
        Err(error) => {
            let reason = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            format!("strconv.Atoi: parsing {}: {reason}", quote(value))
        }
    }
}

/// Reads a peer id: base58 of the multihash, or a CID of type `libp2p-key`.
fn peer_id(text: &str) -> Result<PeerId, String> {
    if text.starts_with("Qm") || text.starts_with('1') {
        let bytes = Base::Base58Btc
            .decode(text)
            .map_err(|error| error.to_string())?;
        return peer_from_multihash(&bytes);
    }
    let (_, bytes) =
        multibase::decode(text).map_err(|_| "invalid cid: selected encoding not supported")?;
    let cut = || "invalid cid: varints malformed, could not reach the end";
    let (version, rest) = multihash::varint(&bytes).map_err(|_| cut())?;
    if version != 1 {
        return Err(format!(
            "invalid cid: expected 1 as the cid version number, got: {version}"
        ));
    }
    let (codec, multihash) = multihash::varint(rest).map_err(|_| cut())?;
    if codec != LIBP2P_KEY {
        return Err(format!("can't convert CID of type {codec:#x} to a peer ID"));
    }
    peer_from_multihash(multihash)
}

fn peer_from_multihash(bytes: &[u8]) -> Result<PeerId, String> {
    multihash::decode(bytes).map_err(|error| error.to_string())?;
    PeerId::from_bytes(bytes).map_err(|error| error.to_string())
}

/// Reads the binary form of a libp2p address.
///
/// # Errors
/// [`MaddrError::Empty`] or [`MaddrError::Bytes`], worded as Go does.
pub fn multiaddr_from_bytes(bytes: &[u8]) -> Result<Multiaddr, MaddrError> {
    if bytes.is_empty() {
        return Err(MaddrError::Empty);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = Protocol::from_bytes(rest)
            .map_err(|error| MaddrError::Bytes(bytes_reason(rest, &error)))?
            .1;
    }
    Multiaddr::try_from(bytes.to_vec()).map_err(|error| MaddrError::Bytes(cause(&error)))
}

fn bytes_reason(rest: &[u8], error: &multiaddr::Error) -> String {
    match error {
        multiaddr::Error::InvalidUvar(error) => varint_reason(error),
        multiaddr::Error::UnknownProtocolId(code) => format!("no protocol with code {code}"),
        multiaddr::Error::DataLessThanLen => {
            let after_code = decode::u32(rest).map_or(rest, |(_, value)| value);
            format!("invalid value for size {}", after_code.len())
        }
        other => cause(other),
    }
}

fn varint_reason(error: &decode::Error) -> String {
    match error {
        decode::Error::Insufficient => "varints malformed, could not reach the end",
        decode::Error::NotMinimal => "varint not minimally encoded",
        _ => "varints larger than uint63 not supported",
    }
    .into()
}

/// The path of a binary `/unix` address, `None` if `bytes` starts otherwise.
///
/// The library insists on UTF-8, paths do not.
pub(super) fn unix_path(bytes: &[u8]) -> Result<Option<&[u8]>, MaddrError> {
    if bytes.is_empty() {
        return Err(MaddrError::Empty);
    }
    let varint = |error: decode::Error| MaddrError::Bytes(varint_reason(&error));
    let (code, rest) = decode::u32(bytes).map_err(varint)?;
    if code != UNIX {
        return Ok(None);
    }
    let (len, rest) = decode::usize(rest).map_err(varint)?;
    let path = rest
        .get(..len)
        .ok_or_else(|| MaddrError::Bytes(format!("invalid value for size {}", rest.len())))?;
    if let Some(extra @ [_, ..]) = rest.get(len..) {
        multiaddr_from_bytes(extra)?;
    }
    Ok(Some(path))
}
