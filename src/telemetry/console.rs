//! Text for the operator and for clients, past every log filter.
//!
//! All of it is queued: a worker must not wait for whoever reads stdout or stderr.

use std::panic::PanicHookInfo;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use super::line;
use super::output::{Output, Target, WhenFull};

/// Time that the last words of a panicking main thread have to reach their reader.
const PANIC_GRACE: Duration = Duration::from_secs(1);

static STDERR: LazyLock<Output> = LazyLock::new(|| Output::new(Target::Stderr));
static STDOUT: LazyLock<Output> = LazyLock::new(|| Output::new(Target::Stdout));

/// The queue of stderr, which log lines share.
pub(super) fn stderr() -> &'static Output {
    &STDERR
}

/// The queue of stdout, which log lines share if they are sent there.
pub(super) fn stdout() -> &'static Output {
    &STDOUT
}

/// Writes `YYYY/MM/DD HH:MM:SS <text>` to stderr, as Go's `log` package does, in UTC.
///
/// Fatal errors at start and notices look so. Nobody may be left to read: that is no error. If
/// the reader has fallen far behind, the oldest lines are dropped and counted.
pub fn operator_line(text: &str) {
    raw_line(&line::stamped(text, SystemTime::now()));
}

/// As [`operator_line`], for a text that may have several lines, as a failed CONNECT has: the others
/// are indented, so that none of them passes for a line of its own.
pub fn operator_lines(text: &str) {
    let mut lines = text.split('\n');
    let first = line::stamped(lines.next().unwrap_or_default(), SystemTime::now());
    let mut text = line::escaped(&first);
    for next in lines {
        text.push_str("\n  ");
        text.push_str(&line::escaped(next));
    }
    text.push('\n');
    stderr().send(text, WhenFull::DropOldest);
}

/// Writes a report of our own words to stderr as it is. If the reader has fallen far behind, the
/// report is dropped and counted.
pub fn report(text: String) {
    stderr().send(text, WhenFull::DropNew);
}

/// Writes `text` to stdout as it is, with one system call if the system takes it whole.
pub fn banner(text: String) {
    stdout().send(text, WhenFull::DropOldest);
}

/// Waits until everything queued for stdout and stderr is written, at most `limit`.
pub fn flush(limit: Duration) {
    let deadline = Instant::now() + limit;
    for output in [&STDERR, &STDOUT] {
        output.flush(deadline);
    }
}

/// Sends panic messages the same way: the hook of the standard library writes to stderr on the
/// thread that panics, which may be a worker.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        stderr().send(panic_text(info), WhenFull::DropOldest);
        let thread = std::thread::current();
        if thread.name() == Some("main") {
            stderr().flush(Instant::now() + PANIC_GRACE);
        }
    }));
}

fn panic_text(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = std::backtrace::Backtrace::capture();
    let trace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("stack backtrace:\n{backtrace}\n"),
        _ => String::new(),
    };
    // What panicked may have had text of a peer in hand.
    let message: Vec<_> = info.to_string().lines().map(line::escaped).collect();
    let message = message.join("\n");
    format!("\nthread '{name}' {message}\n{trace}")
}

/// Writes `text` as one line, control characters escaped.
pub(super) fn raw_line(text: &str) {
    let mut line = line::escaped(text);
    line.push('\n');
    stderr().send(line, WhenFull::DropOldest);
}
