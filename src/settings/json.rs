//! Reads JSON the way Go fills a struct: keys in any case, `null` changes nothing, unknown
//! keys are skipped, a wrong type names the key.

use serde_json::{Map, Value};

use crate::wording::closest;

/// Why a text cannot be read as settings; the words are Go's where Go has some.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub(super) String);

/// Unknown keys that are told.
const MAX_UNKNOWN: usize = 8;

/// Whether Go takes `key` for `known`.
fn is(known: &str, key: &str) -> bool {
    known.eq_ignore_ascii_case(key)
}

/// A JSON object and the path that leads to it.
pub(super) struct Object {
    path: String,
    fields: Map<String, Value>,
}

impl Object {
    /// Reads the whole text; `null` counts as an empty object.
    pub(super) fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let value =
            serde_json::from_slice(text).map_err(|error| JsonError(syntax_error(text, &error)))?;
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => {
                let kind = kind(&other);
                return Err(JsonError(format!(
                    "json: cannot unmarshal {kind} into Go value of type config.Config"
                )));
            }
        };
        Ok(Self {
            path: "Config".into(),
            fields,
        })
    }

    /// The value of `key` if it is there and not null; the exact spelling wins over another case.
    fn find(&self, key: &str) -> Option<(String, &Value)> {
        let exact = self.fields.get_key_value(key);
        let (name, value) = exact.or_else(|| {
            let mut fields = self.fields.iter();
            fields.find(|(name, _)| name.eq_ignore_ascii_case(key))
        })?;
        (!value.is_null()).then(|| (format!("{}.{name}", self.path), value))
    }

    /// A notice for each of the first keys that are none of `known`, whose paths have dots. Go skips
    /// such keys without a word.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<String> {
        let keys = self.fields.keys().filter_map(|key| {
            let of = |path: &&str| path.split('.').next().is_some_and(|one| is(one, key));
            let (path, siblings): (String, Vec<_>) = if !known.iter().any(of) {
                let tops = known.iter().filter_map(|path| path.split('.').next());
                (key.clone(), tops.collect())
            } else {
                let below = known.iter().filter_map(|path| path.split_once('.'));
                let below = below.filter(|(top, _)| is(top, key)).map(|(_, rest)| rest);
                let below: Vec<&str> = below.collect();
                let Some(Value::Object(fields)) = self.fields.get(key) else {
                    return None;
                };
                let mut keys = fields.keys();
                let stray = keys.find(|key| !below.iter().any(|known| is(known, key)))?;
                (format!("{key}.{stray}"), below)
            };
            let name = path.rsplit('.').next().unwrap_or_default();
            let meant = closest(name, siblings.into_iter());
            let meant = meant.map(|meant| format!(": did you mean {meant}?"));
            let path = crate::wording::quote(&path);
            let meant = meant.unwrap_or_default();
            Some(format!("config key {path} is not known, ignored{meant}"))
        });
        keys.take(MAX_UNKNOWN).collect()
    }

    /// The object at `key`, empty if absent.
    fn object(&self, key: &str) -> Result<Self, JsonError> {
        let Some((path, value)) = self.find(key) else {
            return Ok(Self {
                path: format!("{}.{key}", self.path),
                fields: Map::new(),
            });
        };
        match value {
            Value::Object(fields) => Ok(Self {
                path,
                fields: fields.clone(),
            }),
            other => Err(mismatch(&path, other, "object")),
        }
    }

    /// The value at the first of `paths` that is there and not null. A path is a chain of keys
    /// joined by dots; alternatives are joined by `|`.
    pub(super) fn value(&self, paths: &str) -> Result<Option<Found>, JsonError> {
        for path in paths.split('|') {
            let found = match path.split_once('.') {
                None => self.find(path).map(|(path, value)| Found {
                    path,
                    value: value.clone(),
                }),
                Some((key, rest)) => self.object(key)?.value(rest)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// A value, and the path of its key as it was spelled.
pub(crate) struct Found {
    pub(super) path: String,
    pub(super) value: Value,
}

impl Found {
    /// The value as something that must be a `wanted`.
    pub(super) fn expect<T>(&self, read: Option<T>, wanted: &str) -> Result<T, JsonError> {
        read.ok_or_else(|| mismatch(&self.path, &self.value, wanted))
    }
}

/// A value of another type than `wanted`.
pub(super) fn mismatch(path: &str, value: &Value, wanted: &str) -> JsonError {
    let kind = kind(value);
    // Go shows the number when only its size or fraction is wrong.
    let shown = match (value, wanted) {
        (Value::Number(number), "int" | "uint" | "size" | "time.Duration") => {
            format!("{kind} {number}")
        }
        (Value::String(text), "time.Duration" | "size") => {
            format!("{kind} {}", crate::wording::quote(text))
        }
        _ => kind.to_owned(),
    };
    JsonError(format!(
        "json: cannot unmarshal {shown} into Go struct field {path} of type {wanted}"
    ))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Go's words where they are known, the parser's with the position otherwise.
fn syntax_error(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let reason = error.to_string();
    if reason.starts_with("trailing characters")
        && let Some(c) = char_at(text, error.line(), error.column())
    {
        return format!(
            "invalid character '{}' after top-level value",
            c.escape_debug()
        );
    }
    format!("config is not valid JSON: {reason}")
}

/// The character at `line` and byte `column`, both counted from 1.
fn char_at(text: &[u8], line: usize, column: usize) -> Option<char> {
    let line = text
        .split(|byte| *byte == b'\n')
        .nth(line.checked_sub(1)?)?;
    let rest = line.get(column.checked_sub(1)?..)?;
    String::from_utf8_lossy(rest).chars().next()
}
