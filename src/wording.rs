//! How things are worded in error texts: quoting and system errors as in Go, and what was probably
//! meant by a name.

use std::fmt::Write;

/// Similarity from which a name is suggested; 1 is the same name.
const SIMILAR: f64 = 0.75;

/// Longest name for which a suggestion is looked for, in bytes: no flag is as long.
const MAX_NAME: usize = 64;

/// Quotes `text` as Go's `strconv.Quote` does.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        escape(c, &mut out);
    }
    out.push('"');
    out
}

/// Words a system error as Go does: `no such file or directory`.
#[must_use]
pub fn system_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    // The standard library appends the number, and the C library starts with a capital.
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn escape(c: char, out: &mut String) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ if printable(c) => {
            out.push(c);
            return;
        }
        _ => {
            let code = u32::from(c);
            // Writing to a String cannot fail.
            let _ = match code {
                0..=0x1f | 0x7f => write!(out, "\\x{code:02x}"),
                0..=0xffff => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push_str(short);
}

/// Whether `c` shows up as itself on a terminal; close to Go's `unicode.IsPrint`. Marks of
/// writing direction and other format characters count as not printable.
fn printable(c: char) -> bool {
    c == ' '
        || !(c.is_whitespace() || c.is_control() || c.escape_debug().to_string().starts_with("\\u"))
}

/// The most similar of `known`, in whatever case and with or without dashes inside.
pub(crate) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let name = plain(name);
    known
        .map(|known| (strsim::jaro_winkler(&name, &plain(known)), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::{quote, system_error};

    #[test]
    fn quotes_as_go_does() {
        // Expected values printed by Go's fmt.Printf("%q").
        assert_eq!(quote("a b"), r#""a b""#);
        assert_eq!(quote("\"\\\n\0\x1b\x7f"), r#""\"\\\n\x00\x1b\x7f""#);
        assert_eq!(
            quote("é日\u{202e}\u{a0}\u{e0001}"),
            "\"é日\\u202e\\u00a0\\U000e0001\""
        );
    }

    #[test]
    fn system_errors_read_as_in_go() {
        let text = |code| system_error(&std::io::Error::from_raw_os_error(code));
        assert_eq!(text(2), "no such file or directory");
        assert_eq!(text(21), "is a directory");
        assert_eq!(text(98), "address already in use");
        assert_eq!(system_error(&std::io::Error::other("Odd")), "odd");
    }
}
