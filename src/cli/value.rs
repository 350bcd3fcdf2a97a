//! Flag values, read as Go reads them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::duration;

/// Why a value is refused; the words are Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
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

/// A type that a flag can have.
pub(super) trait Value: Sized {
    /// What the usage text calls it; empty for a bool.
    const KIND: &'static str;

    /// Reads a value.
    fn read(text: &OsStr) -> Result<Self, ValueError>;
}

/// A span of time in nanoseconds, negative ones included, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

impl GoDuration {
    /// The span if it is above zero: for most flags zero and less mean "not set".
    #[must_use]
    pub fn positive(self) -> Option<std::time::Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(std::time::Duration::from_nanos)
    }
}

/// Permission bits of a file, read as octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Value for String {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        text.to_str().map(Self::from).ok_or(ValueError::Encoding)
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        Ok(OsString::from(text).into())
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
}

impl Value for u64 {
    const KIND: &'static str = "uint";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        magnitude(text.to_str().ok_or(ValueError::Parse)?)
    }
}

impl Value for GoDuration {
    const KIND: &'static str = "duration";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = text.to_str().ok_or(ValueError::Parse)?;
        // Go's flag package calls every bad duration a parse error, also one out of range.
        duration::parse(text).map(Self).ok_or(ValueError::Parse)
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
