//! Every flag with values it was never meant for: Go's exit code, Go's text, and no panic.

use std::os::unix::ffi::OsStringExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rp2pd;

/// Values, and the kinds of flags whose reader accepts them, as both Go daemons were seen to.
/// Strings accept everything; what an address is made of is checked later (exit code 1).
const VALUES: [(&str, &[&str]); 33] = [
    ("", &[]),
    ("0", &["bool", "int", "size", "uint", "duration", "mode"]),
    ("-0", &["int", "size", "duration"]),
    ("-1", &["int", "size"]),
    ("+1", &["int", "size"]),
    ("1_000", &["int", "size", "uint"]),
    ("1__0", &[]),
    ("08", &[]),
    ("0x1F", &["int", "size", "uint"]),
    ("1e9", &[]),
    ("NaN", &[]),
    ("t", &["bool"]),
    ("tRue", &[]),
    ("yes", &[]),
    ("5", &["int", "size", "uint", "mode"]),
    ("30.0s", &["duration"]),
    ("1h2m3s", &["duration"]),
    (".5s", &["duration"]),
    ("-1s", &["duration"]),
    ("1us", &["duration"]),
    ("1µs", &["duration"]),
    ("1d", &[]),
    ("999999999h", &[]),
    ("9223372036854775807", &["int", "size", "uint"]),
    ("9223372036854775808", &["uint"]),
    ("-9223372036854775808", &["int", "size"]),
    ("-9223372036854775809", &[]),
    ("18446744073709551616", &[]),
    ("99999999999999999999999", &[]),
    ("日本語", &[]),
    ("\u{202e}evil", &[]),
    ("a\nb\x1b[2J", &[]),
    (" ", &[]),
];

/// Name and kind of every flag, from the usage text.
fn flags() -> Vec<(String, String)> {
    let usage = rp2pd(["-help"]).stderr;
    let entries = usage.lines().filter_map(|line| line.strip_prefix("  -"));
    entries
        .map(|entry| {
            let head = entry.split('\t').next().unwrap();
            let (name, kind) = head.split_once(' ').unwrap_or((head, "bool"));
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

/// One flag with one value; `-validate` keeps the daemon from starting.
fn check(name: &str, kind: &str, value: &str, readable: bool) -> Result<(), String> {
    let word = format!("-{name}={value}");
    let run = rp2pd(["-validate", "-noListenAddrs", &word]);
    let told = || format!("{word:?} ({kind}): {run:?}");
    if run.stderr.contains("panicked") || run.stderr.contains("RUST_BACKTRACE") {
        return Err(told());
    }
    let expected: &[i32] = if readable { &[0, 1] } else { &[2] };
    if !expected.contains(&run.code) {
        return Err(told());
    }
    let last = run.stderr.lines().last().unwrap_or_default();
    // What came from outside must not reach a terminal as it is, except in Go's usage error,
    // which quotes it.
    if run.code == 1 && last.chars().any(char::is_control) {
        return Err(told());
    }
    Ok(())
}

#[test]
fn every_flag_with_every_value_ends_as_in_go() {
    let flags = flags();
    assert!(flags.len() > 50, "{flags:?}");
    // `-version` and `-healthcheck` do other things than to check values.
    let flags: Vec<_> = flags
        .into_iter()
        .filter(|(name, _)| !["version", "healthcheck", "validate"].contains(&name.as_str()))
        .collect();
    let cases: Vec<_> = flags
        .iter()
        .flat_map(|(name, kind)| {
            VALUES.iter().map(move |(value, kinds)| {
                let readable = kind == "string" || kinds.contains(&kind.as_str());
                (name, kind, *value, readable)
            })
        })
        .collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, kind, value, readable)) =
                    cases.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if let Err(failure) = check(name, kind, value, *readable) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn huge_words_are_refused_not_choked_on() {
    // Just below what the kernel lets pass as one word.
    let huge = "x".repeat(130_000);
    for (word, code) in [
        (format!("-{huge}"), 2),
        (format!("-b={huge}"), 2),
        (format!("-connLo={huge}"), 2),
        (format!("-connLo={}", "9".repeat(130_000)), 2),
        (format!("-connGrace={}s", "1".repeat(130_000)), 2),
        (format!("-connGrace={}", "1s".repeat(65_000)), 0),
        (format!("-listen=/unix/{huge}"), 1),
        (format!("-listen={huge}"), 1),
        (
            format!("-hostAddrs={}", "/ip4/1.1.1.1/tcp/1,".repeat(6_000)),
            1,
        ),
        (format!("-id={huge}"), 1),
        (format!("-metricsAddr={huge}"), 0),
    ] {
        let run = rp2pd(["-validate", "-noListenAddrs", &word]);
        assert_eq!(run.code, code, "{:.60}: {:.300}", word, run.stderr);
    }
}

#[test]
fn words_that_are_no_text_are_refused() {
    let bytes = |head: &str| {
        let mut word = head.as_bytes().to_vec();
        word.extend_from_slice(b"\xff\xfe");
        std::ffi::OsString::from_vec(word)
    };
    for (word, code) in [
        (bytes("-"), 2),
        (bytes("-connLo="), 2),
        (bytes("-b="), 2),
        (bytes("-listen="), 2),
        (bytes("-id=/nonexistent/"), 1),
        (bytes("-f=/nonexistent/"), 1),
        // No command.
        (bytes(""), 2),
    ] {
        let run = rp2pd(["-validate".into(), "-noListenAddrs".into(), word.clone()]);
        assert_eq!(run.code, code, "{word:?}: {run:?}");
    }
}
