//! The types that a setting can have: read from a flag as Go reads it, read from JSON, shown.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use libp2p::Multiaddr;

use super::duration;
use super::json::{Found, JsonError, mismatch};
use crate::wire::maddr::{ControlAddr, MaddrError, parse_multiaddr};

/// Why a value is refused; the words are Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not of the flag's type.
    #[error("parse error")]
    Parse,
    /// Of the type, but too large or too small.
    #[error("value out of range")]
    Range,
    /// Go would take the bytes as they are; addresses and names are text here.
    #[error("not valid UTF-8")]
    Encoding,
}

/// A type that a setting can have. Its default is what an absent setting without a default of its
/// own amounts to.
pub(crate) trait Value: Default + PartialEq {
    /// What the usage text calls it; empty for a bool.
    const KIND: &'static str;

    /// Reads the value of a flag.
    ///
    /// # Errors
    /// [`ValueError`]
    fn read(text: &OsStr) -> Result<Self, ValueError>;

    /// Reads a value of a JSON file; an oddity of it is added to `notices`.
    #[doc(hidden)]
    fn from_json(found: &Found, notices: &mut Vec<String>) -> Result<Self, JsonError>;

    /// The value as it would be typed after `=`.
    fn show(&self) -> String;

    /// Whether the value counts as none when it stands in a JSON file.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A span of time in nanoseconds, negative ones included, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

impl GoDuration {
    /// A number of seconds.
    #[must_use]
    pub const fn seconds(seconds: u32) -> Self {
        Self(seconds as i64 * 1_000_000_000)
    }

    /// The span if it is above zero: for most flags zero and less mean "not set".
    #[must_use]
    pub fn positive(self) -> Option<std::time::Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(std::time::Duration::from_nanos)
    }
}

impl From<std::time::Duration> for GoDuration {
    fn from(time: std::time::Duration) -> Self {
        Self(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Permission bits of a file, read as octal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// A number of bytes: an integer in Go's notation, or a decimal number with a unit
/// (`B kB MB GB TB KiB MiB GiB TiB`, in any case).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteSize(pub i64);

/// The text of an address, and the path of the JSON key that it stands at, if it does.
///
/// Addresses are parsed when all settings are known: a bad one is no syntax error of the command
/// line, and one that another setting displaces does no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddrText {
    text: String,
    key: Option<String>,
}

/// A list of addresses, separated by commas in a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddrList(Vec<AddrText>);

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddrError {
    /// In a flag, or as a default.
    #[error(transparent)]
    Typed(#[from] MaddrError),
    /// In the config file.
    #[error("config key {key}: {error}")]
    InFile {
        /// Path of the key.
        key: String,
        /// What is wrong with its value.
        #[source]
        error: MaddrError,
    },
}

impl From<&str> for AddrText {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            key: None,
        }
    }
}

impl AddrText {
    /// Reads it as the address of a control socket.
    ///
    /// # Errors
    /// [`AddrError`]
    pub fn control(&self) -> Result<ControlAddr, AddrError> {
        ControlAddr::parse(&self.text).map_err(|error| self.error(error))
    }

    fn multiaddr(&self) -> Result<Multiaddr, AddrError> {
        parse_multiaddr(&self.text).map_err(|error| self.error(error))
    }

    fn error(&self, error: MaddrError) -> AddrError {
        match &self.key {
            None => AddrError::Typed(error),
            Some(key) => AddrError::InFile {
                key: key.clone(),
                error,
            },
        }
    }
}

impl AddrList {
    /// Reads every address.
    ///
    /// # Errors
    /// [`AddrError`] of the first that is none.
    pub fn multiaddrs(&self) -> Result<Vec<Multiaddr>, AddrError> {
        self.0.iter().map(AddrText::multiaddr).collect()
    }
}

impl Value for bool {
    const KIND: &'static str = "";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match text.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => Err(ValueError::Parse),
        }
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        found.expect(found.value.as_bool(), "bool")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        text.to_str().map(Self::from).ok_or(ValueError::Encoding)
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        let text = found.expect(found.value.as_str(), "string")?;
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        Ok(OsString::from(text).into())
    }

    fn from_json(found: &Found, notices: &mut Vec<String>) -> Result<Self, JsonError> {
        String::from_json(found, notices).map(Self::from)
    }

    fn show(&self) -> String {
        self.display().to_string()
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Value for AddrText {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        text.to_str().map(Self::from).ok_or(ValueError::Encoding)
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        let text = found.expect(found.value.as_str(), "multiaddr")?;
        Ok(Self {
            text: text.to_owned(),
            key: Some(found.path.clone()),
        })
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

impl Value for AddrList {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = text.to_str().ok_or(ValueError::Encoding)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(text.split(',').map(AddrText::from).collect()))
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        let list = found.expect(found.value.as_array(), "array of multiaddrs")?;
        let items = list.iter().enumerate().map(|(index, value)| {
            let key = format!("{}[{index}]", found.path);
            match value.as_str() {
                Some(text) => Ok(AddrText {
                    text: text.to_owned(),
                    key: Some(key),
                }),
                None => Err(mismatch(&key, value, "multiaddr")),
            }
        });
        items.collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let texts: Vec<&str> = self.0.iter().map(|addr| addr.text.as_str()).collect();
        texts.join(",")
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Value for i64 {
    const KIND: &'static str = "int";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = text.to_str().ok_or(ValueError::Parse)?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let magnitude = i128::from(magnitude(digits)?);
        let value = if negative { -magnitude } else { magnitude };
        value.try_into().map_err(|_| ValueError::Range)
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        found.expect(found.value.as_i64(), "int")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const KIND: &'static str = "uint";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        magnitude(text.to_str().ok_or(ValueError::Parse)?)
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        found.expect(found.value.as_u64(), "uint")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for ByteSize {
    const KIND: &'static str = "size";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match i64::read(text) {
            Err(ValueError::Parse) => with_unit(text.to_str().ok_or(ValueError::Parse)?),
            plain => plain,
        }
        .map(Self)
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        let size = match &found.value {
            serde_json::Value::String(text) => Self::read(OsStr::new(text)).ok(),
            other => other.as_i64().map(Self),
        };
        // The published schema calls a plain number an int.
        let wanted = if found.value.is_string() {
            "size"
        } else {
            "int"
        };
        found.expect(size, wanted)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Value for GoDuration {
    const KIND: &'static str = "duration";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = text.to_str().ok_or(ValueError::Parse)?;
        // Go's flag package calls every bad duration a parse error, also one out of range.
        duration::parse(text).map(Self).ok_or(ValueError::Parse)
    }

    /// Nanoseconds, or a string such as `120s`. A number so small that seconds were probably
    /// meant keeps Go's meaning and earns a notice.
    fn from_json(found: &Found, notices: &mut Vec<String>) -> Result<Self, JsonError> {
        /// A microsecond is too short for any setting.
        const PLAUSIBLE: i64 = 1_000;
        let nanos = match &found.value {
            serde_json::Value::String(text) => duration::parse(text),
            other => other.as_i64(),
        };
        let nanos = found.expect(nanos, "time.Duration")?;
        if found.value.is_number() && (1..PLAUSIBLE).contains(&nanos) {
            let path = &found.path;
            notices.push(format!(
                "config key {path} is {nanos} nanoseconds; write \"{nanos}s\" for seconds"
            ));
        }
        Ok(Self(nanos))
    }

    fn show(&self) -> String {
        duration::show(self.0)
    }
}

impl Value for FileMode {
    const KIND: &'static str = "mode";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = text.to_str().ok_or(ValueError::Parse)?;
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')) {
            return Err(ValueError::Parse);
        }
        u32::from_str_radix(digits, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .map(Self)
            .ok_or(ValueError::Range)
    }

    fn from_json(found: &Found, notices: &mut Vec<String>) -> Result<Self, JsonError> {
        let text = String::from_json(found, notices)?;
        found.expect(Self::read(OsStr::new(&text)).ok(), "file mode")
    }

    fn show(&self) -> String {
        format!("{:04o}", self.0)
    }
}

/// Reads `512MiB`, `1.5GB`, `64kB`.
fn with_unit(text: &str) -> Result<i64, ValueError> {
    let end = text
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .ok_or(ValueError::Parse)?;
    let (number, unit) = text.split_at(end);
    let factor: u128 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(ValueError::Parse),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(ValueError::Parse);
    }
    let whole: u64 = whole.parse().map_err(|_| ValueError::Range)?;
    // Twelve digits of a fraction are more than the largest unit has.
    let fraction = fraction.get(..12).unwrap_or(fraction);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let part = match fraction {
        "" => 0,
        _ => fraction.parse::<u128>().map_err(|_| ValueError::Parse)? * factor / scale,
    };
    i64::try_from(u128::from(whole) * factor + part).map_err(|_| ValueError::Range)
}

/// Reads an integer without sign in any of Go's notations: decimal, `0x`, `0o`, a leading
/// zero for octal, `0b`, and `_` between digits or after the prefix.
fn magnitude(text: &str) -> Result<u64, ValueError> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    // After a prefix an underscore may come first, since the prefix counts as a digit.
    let mut separator = radix == 10;
    let mut value = Some(0_u64);
    for c in digits.chars() {
        if c == '_' {
            if separator {
                return Err(ValueError::Parse);
            }
            separator = true;
            continue;
        }
        let digit = c.to_digit(radix).ok_or(ValueError::Parse)?;
        separator = false;
        value = value
            .and_then(|value| value.checked_mul(radix.into()))
            .and_then(|value| value.checked_add(digit.into()));
    }
    if digits.is_empty() || separator {
        return Err(ValueError::Parse);
    }
    value.ok_or(ValueError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_or_have_a_unit() {
        let read = |text: &str| ByteSize::read(OsStr::new(text)).map(|size| size.0);
        for (text, bytes) in [
            ("0", 0),
            ("-7", -7),
            ("0x10", 16),
            ("1_000", 1_000),
            ("512MiB", 512 << 20),
            ("512mib", 512 << 20),
            ("2GiB", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("64kB", 64_000),
            ("64KB", 64_000),
            ("1MB", 1_000_000),
            ("3GB", 3_000_000_000),
            ("1TiB", 1 << 40),
            ("12B", 12),
            ("0.5KiB", 512),
            ("1.KiB", 1_024),
        ] {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "MiB", "1M", "1G", "1 MiB", "-1MiB", "+1MiB", ".5MiB", "1..5MiB", "1.5", "1e3B",
            "0x1MiB", "1MiBs", "日B",
        ] {
            assert_eq!(read(text), Err(ValueError::Parse), "{text}");
        }
        for text in [
            "9223372036854775808",
            "8388608TiB",
            "99999999999999999999GB",
        ] {
            assert_eq!(read(text), Err(ValueError::Range), "{text}");
        }
    }
}
