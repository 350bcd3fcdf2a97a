//! Reads JSON the way Go fills a struct: keys in any case, `null` changes nothing, unknown
//! keys are skipped, a wrong type names the key.

use libp2p::Multiaddr;
use serde_json::{Map, Value};

use super::ConfigError;
use crate::cli::{GoDuration, duration};
use crate::wire::maddr::parse_multiaddr;

/// A JSON object and the path that leads to it.
pub(super) struct Object {
    path: String,
    fields: Map<String, Value>,
}

impl Object {
    /// Reads the whole text; `null` counts as an empty object.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let value = serde_json::from_slice(text)
            .map_err(|error| ConfigError::Json(syntax_error(text, &error)))?;
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => {
                let kind = kind(&other);
                return Err(ConfigError::Json(format!(
                    "json: cannot unmarshal {kind} into Go value of type config.Config"
                )));
            }
        };
        Ok(Self {
            path: "Config".into(),
            fields,
        })
    }

    /// The value of the first of `keys` that is there and not null; the exact spelling wins
    /// over another case.
    fn find(&self, keys: &[&str]) -> Option<(String, &Value)> {
        keys.iter().find_map(|key| {
            let exact = self.fields.get_key_value(*key);
            let (name, value) = exact.or_else(|| {
                let mut fields = self.fields.iter();
                fields.find(|(name, _)| name.eq_ignore_ascii_case(key))
            })?;
            (!value.is_null()).then(|| (format!("{}.{name}", self.path), value))
        })
    }

    /// The object at `key`, empty if absent.
    pub(super) fn object(&self, key: &str) -> Result<Self, ConfigError> {
        let Some((path, value)) = self.find(&[key]) else {
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

    /// The bool at `key`.
    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.find(&[key])
            .map(|(path, value)| {
                value
                    .as_bool()
                    .ok_or_else(|| mismatch(&path, value, "bool"))
            })
            .transpose()
    }

    /// The string at `key`; an empty one counts as absent.
    pub(super) fn string(&self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some((path, value)) = self.find(&[key]) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .ok_or_else(|| mismatch(&path, value, "string"))?;
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// The integer at `key`.
    pub(super) fn int(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        self.find(&[key])
            .map(|(path, value)| value.as_i64().ok_or_else(|| mismatch(&path, value, "int")))
            .transpose()
    }

    /// The integer at `key`, not negative.
    pub(super) fn uint(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        self.find(&[key])
            .map(|(path, value)| value.as_u64().ok_or_else(|| mismatch(&path, value, "uint")))
            .transpose()
    }

    /// The duration at the first of `keys`: nanoseconds, or a string such as `120s`.
    ///
    /// A number so small that seconds were probably meant keeps Go's meaning and earns a
    /// notice.
    pub(super) fn duration(
        &self,
        keys: &[&str],
        notices: &mut Vec<String>,
    ) -> Result<Option<GoDuration>, ConfigError> {
        /// A microsecond is too short for any setting.
        const PLAUSIBLE: i64 = 1_000;
        let Some((path, value)) = self.find(keys) else {
            return Ok(None);
        };
        let nanos = match value {
            Value::String(text) => duration::parse(text),
            other => other.as_i64(),
        };
        let nanos = nanos.ok_or_else(|| mismatch(&path, value, "time.Duration"))?;
        if value.is_number() && (1..PLAUSIBLE).contains(&nanos) {
            notices.push(format!(
                "config key {path} is {nanos} nanoseconds; write \"{nanos}s\" for seconds"
            ));
        }
        Ok(Some(GoDuration(nanos)))
    }

    /// The text and path of the address at `key`.
    pub(super) fn text(&self, key: &str) -> Result<Option<(String, String)>, ConfigError> {
        self.find(&[key])
            .map(|(path, value)| match value.as_str() {
                Some(text) => Ok((path, text.to_owned())),
                None => Err(mismatch(&path, value, "multiaddr")),
            })
            .transpose()
    }

    /// The addresses at `key`.
    pub(super) fn addrs(&self, key: &str) -> Result<Vec<Multiaddr>, ConfigError> {
        let Some((path, value)) = self.find(&[key]) else {
            return Ok(Vec::new());
        };
        let list = value
            .as_array()
            .ok_or_else(|| mismatch(&path, value, "array of multiaddrs"))?;
        list.iter()
            .enumerate()
            .map(|(index, value)| {
                let key = format!("{path}[{index}]");
                let text = value
                    .as_str()
                    .ok_or_else(|| mismatch(&key, value, "multiaddr"))?;
                parse_multiaddr(text).map_err(|error| ConfigError::AddressInFile { key, error })
            })
            .collect()
    }
}

fn mismatch(path: &str, value: &Value, wanted: &str) -> ConfigError {
    let kind = kind(value);
    // Go shows the number when only its size or fraction is wrong.
    let shown = match (value, wanted) {
        (Value::Number(number), "int" | "uint" | "time.Duration") => format!("{kind} {number}"),
        (Value::String(text), "time.Duration") => {
            format!("{kind} {}", crate::wording::quote(text))
        }
        _ => kind.to_owned(),
    };
    ConfigError::Json(format!(
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
