//! Lines for the operator, written to stderr at once and past every log filter.

use std::io::Write;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::line;

/// Writes `YYYY/MM/DD HH:MM:SS <text>`, as Go's `log` package does, in UTC.
///
/// Fatal errors at start and notices look so. Nobody may be left to read: that is no error.
pub fn operator_line(text: &str) {
    raw_line(&stamped(text, SystemTime::now()));
}

/// Writes `text` as it is: usage and reports, which are our own words.
pub fn raw_text(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes `text` as one line, control characters escaped.
pub(super) fn raw_line(text: &str) {
    let mut bytes = line::escaped(text).into_bytes();
    bytes.push(b'\n');
    let _ = std::io::stderr().lock().write_all(&bytes);
}

pub(super) fn stamped(text: &str, now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second) = now.to_hms();
    format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02} {text}")
}
