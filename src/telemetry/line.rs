//! One log line: JSON as Hivemind reads it, or tabs as Go's console encoder writes it.

use std::error::Error;
use std::fmt::{self, Write};
use std::time::SystemTime;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use super::{Chain, SUBSYSTEMS};

/// Longest text of a message or field, in bytes, before escaping; a reader of lines gives up
/// at 64 KiB, and escaping can make six bytes of one.
const MAX_TEXT: usize = 2 << 10;

/// Longest line before the fields that no longer fit are left out.
const MAX_LINE: usize = 32 << 10;

/// Path components of the source file that a line shows.
const CALLER_PARTS: usize = 3;

/// The line's own keys; a field of that name is written with an underscore.
const RESERVED: [&str; 5] = ["level", "ts", "logger", "caller", "msg"];

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object.
    Json,
    /// Tab separated.
    Plain,
    /// Tab separated, the level in colour.
    Color,
}

/// The line that reports lines that could not be queued.
pub(super) fn dropped(count: u64, format: Format, now: SystemTime) -> String {
    let mut head = Head {
        level: Level::WARN,
        logger: "p2pd",
        caller: caller(file!(), line!()),
        msg: "log lines dropped: the reader is too slow",
    };
    let mut fields = Map::new();
    fields.insert("dropped".into(), count.into());
    head.render(&fields, format, now)
}

/// Formats an event of `metadata` with `fields`, newline included.
pub(super) fn render(
    metadata: &Metadata<'_>,
    fields: &Fields,
    format: Format,
    now: SystemTime,
) -> String {
    let mut head = Head {
        level: *metadata.level(),
        logger: logger(metadata.target()),
        caller: caller(metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0)),
        msg: &fields.message,
    };
    head.render(&fields.values, format, now)
}

/// What every line starts with.
struct Head<'a> {
    level: Level,
    logger: &'a str,
    caller: String,
    msg: &'a str,
}

impl Head<'_> {
    fn render(&mut self, fields: &Map<String, Value>, format: Format, now: SystemTime) -> String {
        let ts = timestamp(now);
        let mut line = String::with_capacity(256);
        if format == Format::Json {
            line.push('{');
            for (key, text) in [
                ("level", name(self.level)),
                ("ts", &ts),
                ("logger", self.logger),
                ("caller", &self.caller),
                ("msg", self.msg),
            ] {
                push_text(key, &mut line);
                line.push(':');
                push_text(text, &mut line);
                line.push(',');
            }
        } else {
            let level = match format {
                Format::Color => colored(self.level).to_owned(),
                _ => name(self.level).to_uppercase(),
            };
            let (logger, caller) = (self.logger, &self.caller);
            let msg = escaped(self.msg);
            line = format!("{ts}\t{level}\t{logger}\t{caller}\t{msg}");
            if fields.is_empty() {
                line.push('\n');
                return line;
            }
            line.push_str("\t{");
        }
        let cut = push_fields(fields, &mut line);
        if cut {
            line.push_str("\"truncated\":true,");
        }
        line.pop();
        line.push_str("}\n");
        line
    }
}

/// Appends `"key":value,` for every field that fits; tells whether one did not.
fn push_fields(fields: &Map<String, Value>, line: &mut String) -> bool {
    for (key, value) in fields {
        let start = line.len();
        push_text(key, line);
        line.push(':');
        match value {
            Value::String(text) => push_text(text, line),
            // Writing to a String cannot fail.
            other => drop(write!(line, "{other}")),
        }
        line.push(',');
        if line.len() > MAX_LINE {
            line.truncate(start);
            return true;
        }
    }
    false
}

/// Appends a JSON string, with everything escaped that could confuse a terminal.
fn push_text(text: &str, line: &mut String) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            '\r' => line.push_str("\\r"),
            c if hidden(c) => push_escape(c, line),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// `text` with control characters and marks of writing direction escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            push_escape(c, &mut out);
        } else {
            out.push(c);
        }
    }
    out
}

fn push_escape(c: char, out: &mut String) {
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// Control characters, line separators and marks of writing direction: text of peers could
/// forge or hide log lines with them.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// ISO 8601 with milliseconds, in UTC: Hivemind insists on the fraction and the zone.
fn timestamp(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second, milli) = now.to_hms_milli();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// `YYYY/MM/DD HH:MM:SS <text>`, as Go's `log` package writes it, in UTC.
pub(super) fn stamped(text: &str, now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second) = now.to_hms();
    format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02} {text}")
}

/// Go has no level below debug.
fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

fn colored(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31mERROR\x1b[0m",
        Level::WARN => "\x1b[33mWARN\x1b[0m",
        Level::INFO => "\x1b[34mINFO\x1b[0m",
        Level::DEBUG | Level::TRACE => "\x1b[35mDEBUG\x1b[0m",
    }
}

fn logger(target: &str) -> &str {
    let ours = |targets: &[&str]| {
        targets.iter().any(|ours| {
            let rest = target.strip_prefix(ours);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    };
    let known = SUBSYSTEMS.iter().find(|(_, targets)| ours(targets));
    known.map_or(target, |(name, _)| name)
}

/// The end of the source path: the start tells where the binary was built.
fn caller(file: &str, line: u32) -> String {
    let start = file
        .rmatch_indices('/')
        .nth(CALLER_PARTS - 1)
        .map_or(0, |(slash, _)| slash + 1);
    format!("{}:{line}", file.get(start..).unwrap_or(file))
}

/// The fields of an event or a span, in order of their names.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: String,
    values: Map<String, Value>,
}

impl Fields {
    /// Adds what `outer` has and `self` has not. The message is the event's own.
    pub(super) fn add_missing(&mut self, outer: &Self) {
        for (name, value) in &outer.values {
            if !self.values.contains_key(name) {
                self.values.insert(name.clone(), value.clone());
            }
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name().trim_start_matches("r#");
        let name = if RESERVED.contains(&name) {
            format!("{name}_")
        } else {
            name.to_owned()
        };
        self.values.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = Capped::format(format_args!("{value:?}"));
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = Capped::format(format_args!("{value}"));
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", Chain(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

/// Text that stops growing at [`MAX_TEXT`], so that a huge value is not even formatted.
#[derive(Default)]
struct Capped(String);

impl Capped {
    fn format(arguments: fmt::Arguments<'_>) -> String {
        let mut text = Self::default();
        if text.write_fmt(arguments).is_err() {
            text.0.push('…');
        }
        text.0
    }
}

impl Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_TEXT.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let cut = (0..=room).rev().find(|end| text.is_char_boundary(*end));
        self.0
            .push_str(text.get(..cut.unwrap_or(0)).unwrap_or_default());
        Err(fmt::Error)
    }
}
