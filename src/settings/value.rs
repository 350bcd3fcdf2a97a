//! The types that a setting can have: read from a flag as Go reads it, read from JSON, shown.

mod address;
mod number;
mod span;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::json::{Found, JsonError};

pub use address::{AddrError, AddrList, AddrText};
pub use number::ByteSize;
pub use span::GoDuration;

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

    /// Whether it names a file.
    const IS_PATH: bool = false;

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

/// Permission bits of a file, read as octal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileMode(pub u32);

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
    const IS_PATH: bool = true;

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
