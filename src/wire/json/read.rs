//! JSON to the bytes of a message.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::{
    form,
    schema::{Field, Form, Kind, Message},
};

/// Why JSON is no message, or a message has no form in JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// There is no request of that name.
    #[error("unknown request")]
    Verb,
    /// There are parameters, and the request has none.
    #[error("the request has no parameters")]
    Part,
    /// It is no JSON, or not what the fields want.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The bytes are no message.
    #[error("not a message")]
    Message,
}

/// Characters of a client's own names that an error repeats.
const TOLD: usize = 64;

/// The bytes of a message, and how many there may be.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    max: usize,
}

impl Out {
    pub(super) fn new(max: usize) -> Self {
        let bytes = Vec::new();
        Self { bytes, max }
    }

    /// For a message in this one.
    fn inner(&self) -> Self {
        Self::new(self.max.saturating_sub(self.bytes.len()))
    }

    fn is_full(&self) -> bool {
        self.bytes.len() > self.max
    }

    fn check<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.is_full() {
            true => Err(E::custom(format!("larger than {} bytes", self.max))),
            false => Ok(()),
        }
    }
}

/// The begin of `name`, for an error.
fn told(name: &str) -> String {
    name.chars().take(TOLD).collect()
}

/// Reads a message, and appends its fields.
pub(super) fn message(
    message: &'static Message,
    json: &[u8],
    out: &mut Out,
) -> Result<(), JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    Fields { message, out }.deserialize(&mut reader)?;
    Ok(reader.end()?)
}

/// Reads one field, and appends it.
pub(super) fn field(field: &'static Field, json: &[u8], out: &mut Out) -> Result<(), JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    Values {
        field,
        out,
        inside: false,
    }
    .deserialize(&mut reader)?;
    Ok(reader.end()?)
}

pub(super) fn put_varint(value: u64, out: &mut Vec<u8>) {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    out.extend_from_slice(unsigned_varint::encode::u64(value, &mut buffer));
}

/// An object that is a message.
struct Fields<'a> {
    message: &'static Message,
    out: &'a mut Out,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the fields of {}", self.message.name)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        // The text is not repeated.
        Err(E::custom(format!(
            "{} has to be an object",
            self.message.name
        )))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Fields { message, out } = self;
        // No message has as many fields.
        let mut seen = 0_u128;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let found = message.fields.iter().position(|field| field.name == key);
            let Some(index) = found else {
                let name = message.name;
                let key = told(&key);
                return Err(M::Error::custom(format!("{name} has no field {key:?}")));
            };
            let bit = 1_u128.checked_shl(u32::try_from(index).unwrap_or(u32::MAX));
            let bit = bit.unwrap_or_default();
            if seen & bit != 0 {
                let key = told(&key);
                return Err(M::Error::custom(format!("{key:?} stands twice")));
            }
            seen |= bit;
            let field = &message.fields[index];
            map.next_value_seed(Values {
                field,
                out,
                inside: false,
            })?;
        }
        Ok(())
    }
}

/// What stands for a field: one value, or a list of them.
struct Values<'a> {
    field: &'static Field,
    out: &'a mut Out,
    /// Of a list.
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl Values<'_> {
    fn varint<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        let out = &mut self.out.bytes;
        put_varint(u64::from(self.field.number) << 3, out);
        put_varint(value, out);
        self.out.check()
    }

    fn bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<(), E> {
        let out = &mut self.out.bytes;
        put_varint(u64::from(self.field.number) << 3 | 2, out);
        put_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
        self.out.check()
    }

    fn wrong<E: serde::de::Error>(&self) -> E {
        let name = self.field.name;
        E::custom(format!("{name:?} has to be {}", expected(self.field.kind)))
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Signed => "a whole number",
        Kind::Unsigned => "a whole number, not below 0",
        Kind::Bool => "true or false",
        Kind::Enum(_) => "one of its names, or a number",
        Kind::Bytes(form) => form::expected(form),
        Kind::Message(_) => "an object",
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", expected(self.field.kind), self.field.name)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        match self.inside {
            true => Err(self.wrong()),
            // As if it were not there.
            false => Ok(()),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => self.varint(value.into()),
            _ => Err(self.wrong()),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.field.kind {
            // As protobuf has negative numbers.
            Kind::Signed => self.varint(value.cast_unsigned()),
            Kind::Enum(_) if i32::try_from(value).is_ok() => self.varint(value.cast_unsigned()),
            _ => match u64::try_from(value) {
                Ok(value) => self.visit_u64(value),
                Err(_) => Err(self.wrong()),
            },
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match self.field.kind {
            Kind::Unsigned => self.varint(value),
            Kind::Signed if i64::try_from(value).is_ok() => self.varint(value),
            Kind::Enum(_) if i32::try_from(value).is_ok() => self.varint(value),
            _ => Err(self.wrong()),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Bytes(form) => match form::read(form, text) {
                Some(bytes) => self.bytes(&bytes),
                None => Err(self.wrong()),
            },
            Kind::Enum(names) => {
                let meant = |name: &str| {
                    let same =
                        |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (a, b) == (b'-', b'_');
                    name.len() == text.len() && text.bytes().zip(name.bytes()).all(same)
                };
                match names.iter().find(|(name, _)| meant(name)) {
                    Some((_, number)) => self.varint(i64::from(*number).cast_unsigned()),
                    None => self.number(text),
                }
            }
            // As shells write them.
            Kind::Bool => match text {
                "true" => self.visit_bool(true),
                "false" => self.visit_bool(false),
                _ => Err(self.wrong()),
            },
            Kind::Signed | Kind::Unsigned => self.number(text),
            Kind::Message(_) => Err(self.wrong()),
        }
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut values: S) -> Result<(), S::Error> {
        if !self.field.repeated || self.inside {
            return Err(self.wrong());
        }
        let Values { field, out, .. } = self;
        while values
            .next_element_seed(Values {
                field,
                out,
                inside: true,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut inner = self.out.inner();
        match self.field.kind {
            Kind::Message(message) => {
                let out = &mut inner;
                Fields { message, out }.visit_map(map)?;
            }
            Kind::Bytes(_) => {
                let form = match map.next_key::<Cow<'_, str>>()?.as_deref() {
                    Some("base64") => Form::Data,
                    Some("text") => Form::Text,
                    _ => return Err(self.wrong()),
                };
                let text = map.next_value::<Cow<'_, str>>()?;
                inner.bytes = form::read(form, &text).ok_or_else(|| self.wrong())?;
                if map.next_key::<Cow<'_, str>>()?.is_some() {
                    return Err(self.wrong());
                }
            }
            _ => return Err(self.wrong()),
        }
        self.bytes(&inner.bytes)
    }
}

impl Values<'_> {
    fn number<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if let Ok(value) = text.parse::<u64>() {
            return self.visit_u64(value);
        }
        match text.parse::<i64>() {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(self.wrong()),
        }
    }
}
