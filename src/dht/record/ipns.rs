//! Records below `/ipns/`: a signed pointer of a peer, with a sequence number and an end of
//! life.

use std::{cmp::Ordering, collections::HashSet};

use ciborium::Value;
use libp2p::{PeerId, identity::PublicKey};
use prost::Message;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    KeyBook,
    pk::{self, KeyError},
};
use crate::{
    fixed_limits::fixed_limit,
    wire::multihash::{self, IDENTITY},
    wording::quote,
};

/// Longest record, in bytes (the IPNS specification).
const MAX_RECORD: usize = 10 << 10;
fixed_limit!("DHT: record below /ipns/", bytes MAX_RECORD);

/// Deepest nesting that is read; what counts is at depth one.
const MAX_DEPTH: usize = 64;
fixed_limit!("DHT: nesting of the CBOR in such a record", MAX_DEPTH);

/// What the signature covers besides the data.
const SIGNED_PREFIX: &[u8] = b"ipns-signature:";

/// The one known way to say how long a record is valid: until a moment.
const END_OF_LIFE: i64 = 0;

/// Why a record below `/ipns/` is refused, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpnsError {
    /// What follows `/ipns/` is no peer id.
    #[error("name is invalid")]
    Name,
    /// Longer than 10 KiB.
    #[error("record exceeds allowed size limit")]
    Size,
    /// Not protobuf, or not CBOR inside.
    #[error("record is malformed; {0}")]
    Malformed(String),
    /// The key inside the record is none.
    #[error("public key invalid; {0}")]
    RecordKey(KeyError),
    /// The key inside the peer id is none.
    #[error(transparent)]
    NameKey(KeyError),
    /// The key inside the record is another peer's.
    #[error("record public key does not match the expected public key")]
    KeyMismatch,
    /// The key is neither in the record nor in the peer id, and not known here.
    #[error("public key not found")]
    KeyNotFound,
    /// Unsigned, or signed by another key.
    #[error("signature verification failed")]
    Signature,
    /// A field outside of the signed data contradicts it.
    #[error("field \"{0}\" did not match between protobuf and CBOR")]
    Field(&'static str),
    /// Valid by another rule than until a moment.
    #[error("record contains an unrecognized validity type")]
    ValidityType,
    /// The moment cannot be read.
    #[error("record contains an invalid validity; parsing time {}: {reason}", quote(.text))]
    Validity {
        /// What was given.
        text: String,
        /// The library's words.
        reason: String,
    },
    /// The moment has passed.
    #[error("record is expired")]
    Expired,
}

/// `IpnsEntry` of the specification. What is signed is `data`; the first fields repeat it for
/// old readers.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", optional, tag = "1")]
    value: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    signature_v1: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "3")]
    validity_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    validity: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "5")]
    sequence: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    ttl: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    signature_v2: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    data: Option<Vec<u8>>,
}

/// A record that has been read, and nothing more.
struct Record {
    entry: Entry,
    /// The map in `data`.
    fields: Vec<(Value, Value)>,
}

/// Whether `value` is signed by the peer `name`, and not expired.
pub(super) fn validate(name: &[u8], value: &[u8], keys: &dyn KeyBook) -> Result<(), IpnsError> {
    multihash::decode(name).map_err(|_| IpnsError::Name)?;
    let record = Record::decode(value)?;
    let key = record.public_key(name, keys)?;
    record.verify(&key)?;
    if OffsetDateTime::now_utc() > record.end_of_life()? {
        return Err(IpnsError::Expired);
    }
    Ok(())
}

/// The index of the best of `values`, of which there is at least one.
pub(super) fn select(values: &[&[u8]]) -> Result<usize, IpnsError> {
    let records: Vec<Record> = values
        .iter()
        .map(|value| Record::decode(value))
        .collect::<Result<_, _>>()?;
    let mut best = 0;
    for candidate in 1..records.len() {
        let order = records[best].compare(&records[candidate])?;
        // A tie must fall alike on every node.
        let order = order.then_with(|| values[best].cmp(values[candidate]));
        if order == Ordering::Less {
            best = candidate;
        }
    }
    Ok(best)
}

impl Record {
    fn decode(value: &[u8]) -> Result<Self, IpnsError> {
        if value.len() > MAX_RECORD {
            return Err(IpnsError::Size);
        }
        let entry =
            Entry::decode(value).map_err(|_| IpnsError::Malformed(KeyError::Wire.to_string()))?;
        let data = entry.data.as_deref().unwrap_or_default();
        if data.is_empty() {
            let reason = "record is missing the dag-cbor data field";
            return Err(IpnsError::Malformed(reason.to_owned()));
        }
        let fields = decode_map(data).map_err(IpnsError::Malformed)?;
        Ok(Self { entry, fields })
    }

    /// The key that must have signed: from the record, the name or the book, in this order.
    fn public_key(&self, name: &[u8], keys: &dyn KeyBook) -> Result<PublicKey, IpnsError> {
        if let Some(bytes) = self.entry.pub_key.as_deref().filter(|key| !key.is_empty()) {
            let key = pk::decode_key(bytes).map_err(IpnsError::RecordKey)?;
            if PeerId::from(&key).to_bytes() != name {
                return Err(IpnsError::KeyMismatch);
            }
            return Ok(key);
        }
        let multihash = multihash::decode(name).map_err(|_| IpnsError::Name)?;
        if multihash.code == IDENTITY {
            return pk::decode_key(multihash.digest).map_err(IpnsError::NameKey);
        }
        let known = PeerId::from_bytes(name)
            .ok()
            .and_then(|peer| keys.public_key(&peer));
        known.ok_or(IpnsError::KeyNotFound)
    }

    /// Checks the signature, and that the fields for old readers say the same as what is
    /// signed. A signature of the first version is never looked at.
    fn verify(&self, key: &PublicKey) -> Result<(), IpnsError> {
        let empty = |field: &Option<Vec<u8>>| field.as_ref().is_none_or(Vec::is_empty);
        let signature = self.entry.signature_v2.as_deref().unwrap_or_default();
        let data = self.entry.data.as_deref().unwrap_or_default();
        if signature.is_empty() || !key.verify(&[SIGNED_PREFIX, data].concat(), signature) {
            return Err(IpnsError::Signature);
        }
        if empty(&self.entry.signature_v1) && empty(&self.entry.value) {
            return Ok(());
        }
        let bytes = [
            ("Value", &self.entry.value),
            ("Validity", &self.entry.validity),
        ];
        for (name, outside) in bytes {
            if self.bytes(name)? != outside.as_deref().unwrap_or_default() {
                return Err(IpnsError::Field(name));
            }
        }
        let integers = [
            ("ValidityType", self.entry.validity_type.map(i64::from)),
            ("Sequence", self.entry.sequence.map(u64::cast_signed)),
            ("TTL", self.entry.ttl.map(u64::cast_signed)),
        ];
        for (name, outside) in integers {
            if self.integer(name)? != outside.unwrap_or_default() {
                return Err(IpnsError::Field(name));
            }
        }
        Ok(())
    }

    /// The signature of the second version first, then the higher sequence, then the later
    /// end of life.
    fn compare(&self, other: &Self) -> Result<Ordering, IpnsError> {
        let signed = |record: &Self| record.entry.signature_v2.is_some();
        let order = signed(self).cmp(&signed(other));
        if order.is_ne() {
            return Ok(order);
        }
        let order = self.sequence()?.cmp(&other.sequence()?);
        if order.is_ne() {
            return Ok(order);
        }
        Ok(self.end_of_life()?.cmp(&other.end_of_life()?))
    }

    fn sequence(&self) -> Result<u64, IpnsError> {
        self.integer("Sequence").map(i64::cast_unsigned)
    }

    fn end_of_life(&self) -> Result<OffsetDateTime, IpnsError> {
        if self.integer("ValidityType")? != END_OF_LIFE {
            return Err(IpnsError::ValidityType);
        }
        parse_time(self.bytes("Validity")?)
    }

    fn field(&self, name: &str) -> Result<&Value, IpnsError> {
        let is_named = |key: &Value| key.as_text() == Some(name);
        let found = self.fields.iter().find(|(key, _)| is_named(key));
        let found = found.map(|(_, value)| value);
        found.ok_or_else(|| IpnsError::Malformed(format!("key not found: \"{name}\"")))
    }

    fn bytes(&self, name: &str) -> Result<&[u8], IpnsError> {
        match self.field(name)? {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(wrong_kind("AsBytes", "bytes", other)),
        }
    }

    fn integer(&self, name: &str) -> Result<i64, IpnsError> {
        match self.field(name)? {
            Value::Integer(integer) => i64::try_from(*integer).map_err(|_| {
                IpnsError::Malformed("unsigned integer out of range of int64 type".to_owned())
            }),
            other => Err(wrong_kind("AsInt", "int", other)),
        }
    }
}

/// Reads a CBOR map with nothing after it.
fn decode_map(mut data: &[u8]) -> Result<Vec<(Value, Value)>, String> {
    let value = ciborium::de::from_reader_with_recursion_limit(&mut data, MAX_DEPTH);
    let value: Value = value.map_err(|error| error.to_string())?;
    if !data.is_empty() {
        return Err("unexpected content after end of cbor object".to_owned());
    }
    check_keys(&value)?;
    match value {
        Value::Map(fields) => Ok(fields),
        other => Err(format!("a map was expected, not {}", kind(&other))),
    }
}

/// Whether all maps have text for keys, each of them once; the reader has bounded the depth.
fn check_keys(value: &Value) -> Result<(), String> {
    match value {
        Value::Map(fields) => {
            let mut seen = HashSet::with_capacity(fields.len());
            for (key, value) in fields {
                let Value::Text(name) = key else {
                    let kind = kind(key);
                    return Err(format!("unexpected {kind} token while expecting map key"));
                };
                if !seen.insert(name) {
                    return Err(format!("cannot repeat map key {}", quote(name)));
                }
                check_keys(value)?;
            }
            Ok(())
        }
        Value::Array(values) => values.iter().try_for_each(check_keys),
        Value::Tag(_, value) => check_keys(value),
        _ => Ok(()),
    }
}

fn wrong_kind(method: &str, wanted: &str, value: &Value) -> IpnsError {
    let kind = kind(value);
    IpnsError::Malformed(format!(
        "func called on wrong kind: \"{method}\" called on a {kind} node (kind: {kind}), but \
         only makes sense on {wanted}"
    ))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "int",
        Value::Bytes(_) => "bytes",
        Value::Float(_) => "float",
        Value::Text(_) => "string",
        Value::Bool(_) => "bool",
        Value::Null => "null",
        Value::Tag(..) => "link",
        Value::Array(_) => "list",
        Value::Map(_) => "map",
        _ => "unknown",
    }
}

/// Reads a moment as Go does, which is stricter than the library: capitals only, no leap
/// second.
fn parse_time(bytes: &[u8]) -> Result<OffsetDateTime, IpnsError> {
    let bad = |reason: String| IpnsError::Validity {
        text: String::from_utf8_lossy(bytes).into_owned(),
        reason,
    };
    let text = str::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    let leap = bytes.get(17..19) == Some(b"60");
    if bytes.get(10) != Some(&b'T') || bytes.ends_with(b"z") || leap {
        return Err(bad("not of the form 2006-01-02T15:04:05Z".to_owned()));
    }
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| bad(error.to_string()))
}
