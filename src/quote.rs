//! Go's `%q`: the quoting that Go's error texts use.

use std::fmt::Write;

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

#[cfg(test)]
mod tests {
    use super::quote;

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
}
