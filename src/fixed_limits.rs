//! Limits that no setting changes, for `-validate` (SECURITY.md 3).
//!
//! Each is declared beside its constant, by [`fixed_limit`], and collected here when the program is
//! linked.

use std::time::Duration;

/// How much of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A number of things.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A time.
    Time(Duration),
}

/// A limit that no setting changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedLimit {
    /// On what.
    pub text: &'static str,
    /// Its value.
    pub amount: Amount,
    /// The constant's name.
    pub constant: &'static str,
    /// The source file that has it.
    pub file: &'static str,
}

inventory::collect!(FixedLimit);

/// Every such limit, in the order of their texts.
#[must_use]
pub fn all() -> Vec<FixedLimit> {
    let mut all: Vec<_> = inventory::iter::<FixedLimit>.into_iter().copied().collect();
    all.sort_unstable_by_key(|limit| limit.text);
    all
}

/// Declares that a constant is a limit, on what, and in which unit: `fixed_limit!("key file", bytes
/// MAX_SIZE)`.
macro_rules! fixed_limit {
    ($text:literal, bytes $constant:ident) => {
        $crate::fixed_limits::fixed_limit!(@ $text, $constant, Bytes($constant as u64));
    };
    ($text:literal, time $constant:ident) => {
        $crate::fixed_limits::fixed_limit!(@ $text, $constant, Time($constant));
    };
    ($text:literal, $constant:ident) => {
        $crate::fixed_limits::fixed_limit!(@ $text, $constant, Count($constant as u64));
    };
    (@ $text:literal, $constant:ident, $kind:ident($amount:expr)) => {
        inventory::submit! {
            $crate::fixed_limits::FixedLimit {
                text: $text,
                amount: $crate::fixed_limits::Amount::$kind($amount),
                constant: stringify!($constant),
                file: file!(),
            }
        }
    };
}

pub(crate) use fixed_limit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_text_of_its_own() {
        let all = all();
        assert!(all.len() > 200, "only {} found", all.len());
        for pair in all.windows(2) {
            assert_ne!(pair[0].text, pair[1].text);
        }
    }
}
