//! The bytes of a message to JSON. Fields come in the order of the schema; those that it does not know
//! are left out.

use std::fmt::Write as _;

use super::{
    form,
    read::JsonError,
    schema::{Field, Form, Kind, Message},
};

/// Messages inside each other; the schema has fewer.
const MAX_DEPTH: usize = 16;

/// A field as it stands in a message.
#[derive(Debug, Clone, Copy)]
enum Entry<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The entries of a message.
struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    fn next(&mut self) -> Result<Option<(u64, Entry<'a>)>, JsonError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let entry = match key & 7 {
            0 => Entry::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| JsonError::Message)?;
                Entry::Bytes(self.take(len)?)
            }
            5 => self.skip(4)?,
            _ => return Err(JsonError::Message),
        };
        Ok(Some((key >> 3, entry)))
    }

    fn varint(&mut self) -> Result<u64, JsonError> {
        let read = prost::encoding::decode_varint(&mut self.0);
        read.map_err(|_| JsonError::Message)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], JsonError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(JsonError::Message)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, len: usize) -> Result<Entry<'a>, JsonError> {
        self.take(len).map(|_| Entry::Other)
    }
}

/// Appends the message as an object.
pub(super) fn message(
    message: &'static Message,
    bytes: &[u8],
    out: &mut String,
) -> Result<(), JsonError> {
    object(message, bytes, out, 0)
}

fn object(
    message: &'static Message,
    bytes: &[u8],
    out: &mut String,
    depth: usize,
) -> Result<(), JsonError> {
    if depth > MAX_DEPTH {
        return Err(JsonError::Message);
    }
    let mut entries = Entries(bytes);
    while entries.next()?.is_some() {}
    out.push('{');
    let begun = out.len();
    for field in message.fields {
        let before = out.len();
        if before > begun {
            out.push(',');
        }
        string(field.name, out);
        out.push(':');
        if !values(field, bytes, out, depth)? {
            out.truncate(before);
        }
    }
    out.push('}');
    Ok(())
}

/// Appends what `bytes` have of a field; whether that is anything.
fn values(
    field: &'static Field,
    bytes: &[u8],
    out: &mut String,
    depth: usize,
) -> Result<bool, JsonError> {
    let mut entries = Entries(bytes);
    if field.repeated {
        out.push('[');
        let begun = out.len();
        while let Some((number, entry)) = entries.next()? {
            if number == u64::from(field.number) {
                let before = out.len();
                if before > begun {
                    out.push(',');
                }
                if !value(field.kind, entry, out, depth)? {
                    out.truncate(before);
                }
            }
        }
        let any = out.len() > begun;
        out.push(']');
        return Ok(any);
    }
    let mut last = None;
    // A message may come in pieces.
    let mut pieces: Vec<u8> = Vec::new();
    while let Some((number, entry)) = entries.next()? {
        if number != u64::from(field.number) {
            continue;
        }
        if let (Kind::Message(_), Entry::Bytes(more), Some(Entry::Bytes(before))) =
            (field.kind, entry, last)
        {
            if pieces.is_empty() {
                pieces.extend_from_slice(before);
            }
            pieces.extend_from_slice(more);
        }
        last = Some(entry);
    }
    match last {
        None => Ok(false),
        Some(_) if !pieces.is_empty() => value(field.kind, Entry::Bytes(&pieces), out, depth),
        Some(entry) => value(field.kind, entry, out, depth),
    }
}

/// Appends one value, unless it is of another type than the field's.
fn value(kind: Kind, entry: Entry<'_>, out: &mut String, depth: usize) -> Result<bool, JsonError> {
    // Writing to a String cannot fail.
    let _ = match (kind, entry) {
        (Kind::Signed, Entry::Varint(value)) => write!(out, "{}", value.cast_signed()),
        (Kind::Unsigned, Entry::Varint(value)) => write!(out, "{value}"),
        (Kind::Bool, Entry::Varint(value)) => write!(out, "{}", value != 0),
        (Kind::Enum(names), Entry::Varint(value)) => {
            let value = value.cast_signed();
            let named = names.iter().find(|(_, number)| i64::from(*number) == value);
            match (named, i32::try_from(value)) {
                (Some((name, _)), _) => write!(out, "\"{name}\""),
                (None, Ok(value)) => write!(out, "{value}"),
                (None, Err(_)) => return Ok(false),
            }
        }
        (Kind::Bytes(form), Entry::Bytes(bytes)) => {
            written(form, bytes, out);
            Ok(())
        }
        (Kind::Message(message), Entry::Bytes(bytes)) => {
            object(message, bytes, out, depth + 1)?;
            Ok(())
        }
        _ => return Ok(false),
    };
    Ok(true)
}

fn written(form: Form, bytes: &[u8], out: &mut String) {
    if form == Form::Json
        && let Ok(document) = std::str::from_utf8(bytes)
        && serde_json::from_str::<serde::de::IgnoredAny>(document).is_ok()
    {
        out.push_str(document.trim());
        return;
    }
    match form::text(form, bytes) {
        Some(text) => string(&text, out),
        None => {
            out.push_str("{\"base64\":");
            string(&form::base64(bytes), out);
            out.push('}');
        }
    }
}

fn string(text: &str, out: &mut String) {
    // A string is always written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}
