//! Settings that are spans of time.

use std::ffi::OsStr;

use super::{Value, ValueError};
use crate::settings::duration;
use crate::settings::json::{Found, JsonError};

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
