//! Requests and answers as JSON, with the names of `proto/p2pd.proto` (PROTOCOL.md 8).
//!
//! JSON becomes the bytes of the message at once, and bytes become text at once: neither way makes
//! anything that is larger than what came in by more than a small factor. What a client may ask
//! is decided where its bytes are read, as if it had sent them.

mod form;
mod read;
mod schema;
mod write;

pub use read::JsonError;
use read::Out;
use schema::{Kind, Message};

/// The first field of a request, as the key of a varint.
const TYPE: u8 = 1 << 3;

/// What is carried after the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Nothing: the next request.
    None,
    /// Responses, until the connection ends.
    Responses,
    /// Messages of a topic, until the connection ends.
    Messages,
    /// Results of the DHT, up to the one that says END.
    Results,
    /// The connection is used in a way that JSON has no form for.
    Other,
}

/// A request, as bytes of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The message, without its length.
    pub bytes: Vec<u8>,
    /// What follows the answer, if that is an OK.
    pub follows: Frames,
}

/// Reads a request. `verb` is the name of its type, in capitals or not, with dashes or underscores; `part`
/// is what the message of that type holds, or empty. It becomes `max` bytes at most.
///
/// # Errors
/// [`JsonError`], whose text names the field.
pub fn request(verb: &str, part: &[u8], max: usize) -> Result<Request, JsonError> {
    let name = verb.replace('-', "_").to_ascii_uppercase();
    let number = request_type(&name).ok_or(JsonError::Verb)?;
    let mut out = Out::new(max);
    out.bytes.push(TYPE);
    read::put_varint(number, &mut out.bytes);
    if !part.iter().all(u8::is_ascii_whitespace) {
        let plain = name.replace('_', "");
        let fields = schema::REQUEST.fields.iter();
        let field = fields
            .filter(|field| matches!(field.kind, Kind::Message(_)))
            .find(|field| field.name.eq_ignore_ascii_case(&plain));
        let field = field.ok_or(JsonError::Part)?;
        read::field(field, part, &mut out)?;
    }
    let bytes = out.bytes;
    let follows = follows(&name, &bytes);
    Ok(Request { bytes, follows })
}

fn request_type(name: &str) -> Option<u64> {
    let kind = schema::REQUEST
        .fields
        .iter()
        .find(|field| field.name == "type");
    let Some(Kind::Enum(values)) = kind.map(|field| field.kind) else {
        return None;
    };
    let (_, number) = values.iter().find(|(value, _)| *value == name)?;
    u64::try_from(*number).ok()
}

fn follows(name: &str, request: &[u8]) -> Frames {
    use prost::Message as _;
    match name {
        "EVENTS" => Frames::Responses,
        "PUBSUB_VALIDATE" | "DHT_VALIDATOR" | "STREAM_OPEN" | "PERSISTENT_CONN_UPGRADE" => {
            Frames::Other
        }
        "PUBSUB" => {
            let kind = super::pb::Request::decode(request).ok();
            let kind = kind.and_then(|request| request.pubsub?.r#type);
            let subscribe = i64::from(i32::from(super::pb::ps_request::Type::Subscribe));
            match kind == Some(subscribe) {
                true => Frames::Messages,
                false => Frames::None,
            }
        }
        "DHT" => Frames::Results,
        _ => Frames::None,
    }
}

/// Writes an answer.
///
/// # Errors
/// [`JsonError::Message`] if the bytes are no message.
pub fn response(bytes: &[u8]) -> Result<String, JsonError> {
    text(&schema::RESPONSE, bytes)
}

/// Writes a result of the DHT.
///
/// # Errors
/// As [`response`].
pub fn result(bytes: &[u8]) -> Result<String, JsonError> {
    text(&schema::DHTRESPONSE, bytes)
}

/// Writes a message of a topic.
///
/// # Errors
/// As [`response`].
pub fn message(bytes: &[u8]) -> Result<String, JsonError> {
    text(&schema::PSMESSAGE, bytes)
}

fn text(message: &'static Message, bytes: &[u8]) -> Result<String, JsonError> {
    let mut out = String::with_capacity(2 * bytes.len());
    write::message(message, bytes, &mut out)?;
    Ok(out)
}

/// Drives both ways with any bytes: what is written once is read as what is written the same.
#[doc(hidden)]
pub(crate) fn fuzz(verb: &str, part: &[u8]) {
    if let Ok(request) = request(verb, part, usize::MAX) {
        let told = text(&schema::REQUEST, &request.bytes);
        assert!(told.is_ok(), "{told:?}");
        same(&schema::REQUEST, &told.unwrap_or_default(), true);
    }
    for message in [
        &schema::REQUEST,
        &schema::RESPONSE,
        &schema::DHTRESPONSE,
        &schema::PSMESSAGE,
    ] {
        if let Ok(told) = text(message, part) {
            let value = serde_json::from_str::<serde_json::Value>(&told);
            assert!(value.is_ok_and(|value| value.is_object()), "{told}");
            same(message, &told, false);
        }
    }
}

/// `told` has been written. What is no message for a reader, such as numbers beyond an enumeration's,
/// is so only if it `has to` be one.
fn same(message: &'static Message, told: &str, has_to: bool) {
    // Field 9 has two names, of which a request means one.
    if told.contains("\"peerstore\":") || told.contains("\"removeStreamHandler\":") {
        return;
    }
    let mut again = Out::new(usize::MAX);
    match read::message(message, told.as_bytes(), &mut again) {
        Ok(()) => assert_eq!(text(message, &again.bytes).ok().as_deref(), Some(told)),
        Err(error) => assert!(!has_to, "{error}: {told}"),
    }
}
