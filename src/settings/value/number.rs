//! Settings that are whole numbers or sizes.

use std::ffi::OsStr;

use super::{Value, ValueError};
use crate::settings::json::{Found, JsonError};

/// A number of bytes: an integer in Go's notation, or a decimal number with a unit
/// (`B kB MB GB TB KiB MiB GiB TiB`, in any case).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteSize(pub i64);

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
