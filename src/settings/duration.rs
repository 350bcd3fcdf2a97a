//! Go's notation for spans of time: `1h2m3.5s`.

/// Reads a duration in nanoseconds; `None` if it is malformed or out of range.
///
/// A sum of numbers with units `ns us µs μs ms s m h`, decimals allowed, one sign in front;
/// `0` needs no unit (COMPATIBILITY.md 1.2).
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    // Go sums in 64 unsigned bits; a single sum of i64::MIN's size is allowed when negative.
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (term, after) = term(rest)?;
        total = total.checked_add(term).filter(|total| *total <= 1 << 63)?;
        rest = after;
    }
    if negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        0_i64.checked_add_unsigned(total)
    }
}

/// Writes nanoseconds as Go's `Duration.String` does: `2m0s`, `1.5s`, `100ms`, `0s`.
#[must_use]
pub fn show(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let (whole, rest) = (total / unit, total % unit);
        let digits = unit.to_string().len() - 1;
        let fraction = format!("{rest:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        match fraction.is_empty() {
            true => format!("{sign}{whole}{name}"),
            false => format!("{sign}{whole}.{fraction}{name}"),
        }
    };
    match total {
        0 => "0s".into(),
        1..1_000 => decimal(1, "ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let seconds = rest / 1_000_000_000;
            let fraction = format!("{:09}", rest % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{seconds}{point}{fraction}s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Reads one number with its unit; returns what follows.
fn term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit: u64 = match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let nanos = whole
        .checked_mul(unit)?
        .checked_add(fraction_of(fraction, unit))
        .filter(|nanos| *nanos <= 1 << 63)?;
    Some((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `0.fraction` of `unit`; digits too small to count are dropped.
fn fraction_of(fraction: &str, unit: u64) -> u64 {
    let mut scale = 1_u128;
    let mut value = 0_u128;
    // 18 digits resolve an attosecond of an hour.
    for digit in fraction.bytes().take(18) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * u128::from(unit) / scale).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn durations_are_written_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (100_000_000, "100ms"),
            (5_000_000_000, "5s"),
            (1_500_000_000, "1.5s"),
            (120_000_000_000, "2m0s"),
            (1_800_000_000_000, "30m0s"),
            (3_723_000_000_001, "1h2m3.000000001s"),
            (-120_000_000_000, "-2m0s"),
        ] {
            assert_eq!(show(nanos), text);
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        assert_eq!(parse(&show(i64::MIN)), Some(i64::MIN));
    }

    #[test]
    fn durations_read_as_in_go() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("30.0s", 30_000_000_000),
            ("1h2m3s", 3_723_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("-1s", -1_000_000_000),
            ("+5ms", 5_000_000),
            (".5us", 500),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("3.m", 180_000_000_000),
            ("0.9999999999999999999ns", 0),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        for text in [
            "",
            "-",
            "+",
            "5",
            "30",
            "1d",
            "s",
            ".s",
            "1",
            "1s ",
            " 1s",
            "--1s",
            "1s-1s",
            "1.2.3s",
            "9223372036854775808ns",
            "3000000h",
            "99999999999999999999s",
            "١s",
            "1e3s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
