use std::collections::HashMap;
use std::io::Read;
use std::time::SystemTime;

use serde_json::Value;
use tracing::Level;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::output::WhenFull;
use super::*;

/// Long enough for a writer thread on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn read(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    settings::read(
        |name| variables.get(name).map(|value| (*value).to_owned()),
        false,
    )
}

fn file_output(file: std::fs::File) -> Output {
    Output::new(Target::File {
        file,
        stderr: Output::new(Target::Discard),
        on_stderr_too: false,
    })
}

/// What a logger writes of `events`.
fn written(filter: Targets, format: Format, events: impl FnOnce()) -> String {
    let mut file = tempfile::tempfile().unwrap();
    let output = file_output(file.try_clone().unwrap());
    output.set_format(format);
    let outputs = vec![output.clone()];
    let subscriber = tracing_subscriber::registry()
        .with(Lines { format, outputs })
        .with(filter);
    tracing::subscriber::with_default(subscriber, events);
    output.flush(Instant::now() + PATIENCE);
    let mut text = String::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn everything() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE)
}

fn passes(settings: &Settings, target: &str) -> LevelFilter {
    [
        Level::TRACE,
        Level::DEBUG,
        Level::INFO,
        Level::WARN,
        Level::ERROR,
    ]
    .into_iter()
    .find(|level| settings.filter.would_enable(target, level))
    .map_or(LevelFilter::OFF, LevelFilter::from_level)
}

#[test]
fn without_a_variable_errors_go_to_stderr_as_plain_text() {
    let (settings, complaints) = read(&[("GOLOG_LOG_LEVEL", "")]);
    assert_eq!(passes(&settings, "anything"), LevelFilter::ERROR);
    assert_eq!(settings.format, Format::Plain);
    let stderr = Outputs {
        stderr: true,
        ..Outputs::default()
    };
    assert_eq!(settings.outputs, stderr);
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    let format = |set: &[(&str, &str)]| {
        let variable = |name: &str| {
            let found = set.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        super::settings::read(variable, true).0.format
    };
    assert_eq!(format(&[]), Format::Color);
    assert_eq!(format(&[("NO_COLOR", "")]), Format::Color);
    assert_eq!(format(&[("NO_COLOR", "1")]), Format::Plain);
    let asked = [("NO_COLOR", "1"), ("GOLOG_LOG_FMT", "color")];
    assert_eq!(format(&asked), Format::Color);
}

#[test]
fn levels_are_read_as_in_go() {
    let (settings, complaints) = read(&[(
        "GOLOG_LOG_LEVEL",
        "WARN,dht=debug,p2pd=Info,libp2p_quic=error,=debug,swarm2=fatal",
    )]);
    assert_eq!(passes(&settings, "rp2pd::dht::query"), LevelFilter::DEBUG);
    assert_eq!(passes(&settings, "rp2pd::node"), LevelFilter::INFO);
    assert_eq!(passes(&settings, "canonical-log"), LevelFilter::WARN);
    assert_eq!(passes(&settings, "libp2p_quic"), LevelFilter::ERROR);
    assert_eq!(passes(&settings, "libp2p_swarm"), LevelFilter::OFF);
    assert_eq!(complaints, [""; 0]);

    // Complaints as Go words them.
    let (settings, complaints) = read(&[
        ("GOLOG_LOG_LEVEL", "bogus,info,dht=xx"),
        ("GOLOG_LOG_FMT", "weird"),
    ]);
    assert_eq!(passes(&settings, "rp2pd::node"), LevelFilter::INFO);
    assert_eq!(
        complaints,
        [
            r#"error setting log level "bogus": unrecognized level: "bogus""#,
            r#"error setting log level "dht=xx": unrecognized level: "xx""#,
            "ignoring unrecognized log format 'weird'",
        ]
    );
}

#[test]
fn libraries_are_quiet_at_info_unless_they_are_named() {
    let of = |levels: &str, target: &str| passes(&read(&[("GOLOG_LOG_LEVEL", levels)]).0, target);
    for level in ["info", "warn"] {
        assert_eq!(of(level, "libp2p_swarm"), LevelFilter::ERROR);
    }
    assert_eq!(of("debug", "libp2p_swarm"), LevelFilter::DEBUG);
    assert_eq!(of("canonical-log=info", "canonical-log"), LevelFilter::INFO);
    // Whatever the order.
    for levels in ["info,swarm2=info,p2pd=debug", "p2pd=debug,swarm2=info,info"] {
        assert_eq!(of(levels, "libp2p_swarm"), LevelFilter::INFO);
        assert_eq!(of(levels, "libp2p_tcp"), LevelFilter::ERROR);
        assert_eq!(of(levels, "rp2pd::node"), LevelFilter::DEBUG);
        assert_eq!(of(levels, "canonical-log"), LevelFilter::INFO);
    }
}

#[test]
fn old_names_step_in_and_rust_log_wins() {
    let (settings, complaints) = read(&[("IPFS_LOGGING", "NOTICE"), ("IPFS_LOGGING_FMT", "json")]);
    assert_eq!(
        (passes(&settings, "rp2pd"), settings.format),
        (LevelFilter::INFO, Format::Json)
    );
    assert_eq!(complaints, [""; 0]);
    for (name, level) in [
        ("CRITICAL", LevelFilter::OFF),
        ("WARNING", LevelFilter::WARN),
    ] {
        assert_eq!(passes(&read(&[("IPFS_LOGGING", name)]).0, "rp2pd"), level);
    }
    let both = [
        ("IPFS_LOGGING", "debug"),
        ("GOLOG_LOG_LEVEL", "info"),
        ("GOLOG_LOG_FMT", "nocolor"),
    ];
    assert_eq!(passes(&read(&both).0, "rp2pd"), LevelFilter::INFO);

    let rust = [
        ("GOLOG_LOG_LEVEL", "info"),
        ("RUST_LOG", "warn,rp2pd::node=trace"),
    ];
    let (settings, _) = read(&rust);
    assert_eq!(passes(&settings, "x"), LevelFilter::WARN);
    assert_eq!(passes(&settings, "rp2pd::node::driver"), LevelFilter::TRACE);
    let (settings, complaints) = read(&[("GOLOG_LOG_LEVEL", "info"), ("RUST_LOG", "a=b=c")]);
    assert_eq!(passes(&settings, "rp2pd"), LevelFilter::INFO);
    assert!(
        complaints[0].starts_with(r#"ignoring RUST_LOG "a=b=c": "#),
        "{complaints:?}"
    );
}

#[test]
fn a_file_turns_stderr_off_unless_both_are_asked_for() {
    let outputs = |variables: &[(&str, &str)]| read(variables).0.outputs;
    let file = outputs(&[("GOLOG_FILE", "/x")]);
    assert_eq!(
        (file.stderr, file.stdout, file.file),
        (false, false, Some("/x".into()))
    );
    let all = outputs(&[
        ("GOLOG_FILE", "/x"),
        ("GOLOG_OUTPUT", "file+stderr+stdout+url"),
    ]);
    assert!(all.stderr && all.stdout && all.file.is_some());
    let (settings, complaints) = read(&[("GOLOG_OUTPUT", "file")]);
    assert!(settings.outputs.stderr);
    assert_eq!(
        complaints,
        ["please specify a GOLOG_FILE value to write to"]
    );

    let complaint = open(Path::new("/nonexistent/x"), false).unwrap_err();
    let text = "unable to open logging output: open /nonexistent/x: no such file or directory";
    assert_eq!(complaint, text);
}

/// Hivemind needs these keys, these levels and a time with fraction and zone.
#[test]
fn json_lines_are_as_hivemind_reads_them() {
    let text = written(everything(), Format::Json, || {
        tracing::warn!(target: "rp2pd::node", peer = %"Qm", count = 3, ok = true, error = ?"e", level = 1, "dial \"failed\"\n");
        tracing::trace!(target: "libp2p_swarm", "");
    });
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [first, second] = &lines[..] else {
        panic!("{text}")
    };
    assert!(text.starts_with(r#"{"level":"warn","ts":""#), "{text}");
    assert_eq!(first["logger"], "p2pd");
    assert_eq!(first["msg"], "dial \"failed\"\n");
    assert_eq!(
        (&first["peer"], &first["count"], &first["ok"]),
        (&"Qm".into(), &3.into(), &true.into())
    );
    assert_eq!(
        (&first["error"], &first["level_"]),
        (&"\"e\"".into(), &1.into())
    );
    let caller = first["caller"].as_str().unwrap();
    assert!(caller.starts_with("src/telemetry/tests.rs:"), "{caller}");
    let ts = first["ts"].as_str().unwrap();
    assert_eq!(
        (ts.len(), &ts[10..11], &ts[19..20], &ts[23..]),
        (24, "T", ".", "Z"),
        "{ts}"
    );
    assert_eq!(
        (&second["level"], &second["logger"]),
        (&"debug".into(), &"swarm2".into())
    );
}

#[test]
fn plain_lines_have_tabs_and_no_colour() {
    let text = written(everything(), Format::Plain, || {
        tracing::error!(target: "rp2pd", n = 1, "two\twords");
        tracing::info!(target: "other::crate", "bare");
    });
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(
        (lines[0][1], lines[0][2], lines[0][4], lines[0][5]),
        ("ERROR", "p2pd", "two\\u0009words", r#"{"n":1}"#)
    );
    assert_eq!(
        (lines[1][1], lines[1][2], lines[1].len()),
        ("INFO", "other::crate", 5)
    );
    let text = written(everything(), Format::Color, || tracing::error!("x"));
    assert!(text.contains("\t\x1b[31mERROR\x1b[0m\t"), "{text:?}");
}

#[test]
fn what_peers_say_can_neither_forge_nor_flood_lines() {
    let evil = "a\nPeer ID: x\x1b[2J\u{202e}\u{85}";
    for format in [Format::Json, Format::Plain] {
        let text = written(everything(), format, || {
            tracing::info!(agent = evil, "{evil}");
        });
        assert_eq!(text.lines().count(), 1);
        let raw = ['\x1b', '\u{202e}', '\u{85}'];
        assert!(!text.contains(raw), "{text:?}");
    }
    let huge = "\u{1}".repeat(1 << 20);
    let text = written(everything(), Format::Json, || {
        tracing::info!(a = huge, b = huge, c = huge, d = huge, e = huge, f = ?huge, "{huge}");
    });
    assert!(text.len() < 60_000, "{}", text.len());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["truncated"], true);
    assert!(value["msg"].as_str().unwrap().ends_with('…'));
}

#[test]
fn a_filter_decides_and_spans_stay_silent() {
    let filter = read(&[("GOLOG_LOG_LEVEL", "warn")]).0.filter;
    let text = written(filter, Format::Plain, || {
        let _entered = tracing::error_span!("span").entered();
        tracing::info!("below");
        tracing::warn!("above");
    });
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("above"));
}

/// The reader of the pipe does nothing until the end: no event may wait for it.
#[test]
fn a_reader_that_sleeps_costs_lines_only() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    let output = file_output(writer);
    output.set_format(Format::Json);
    let subscriber = tracing_subscriber::registry().with(Lines {
        format: Format::Json,
        outputs: vec![output.clone()],
    });
    let started = Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..20_000 {
            tracing::info!(n, "line");
        }
    });
    output.flush(Instant::now() + Duration::from_millis(10));
    assert!(started.elapsed() < PATIENCE);

    let drained = std::thread::spawn(move || {
        let mut text = String::new();
        let mut lines = std::io::BufReader::new(&mut reader);
        // The line that tells of the loss comes once, before the first line that follows it.
        while !text.contains("\"dropped\":") {
            assert!(std::io::BufRead::read_line(&mut lines, &mut text).unwrap() > 0);
        }
        text
    });
    let text = drained.join().unwrap();
    let told: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let dropped = told["dropped"].as_u64().unwrap();
    assert!((1..20_000).contains(&dropped), "{dropped}");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let writer = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    let output = Output::new(Target::Discard);
    output.send("none\n".into(), WhenFull::DropNew);
    output.flush(Instant::now() + PATIENCE);
    let output = file_output(writer);
    output.send("one\n".into(), WhenFull::DropNew);
    output.send("two\n".into(), WhenFull::DropNew);
    output.flush(Instant::now() + PATIENCE);
}

#[test]
fn the_last_words_displace_the_oldest_lines() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let output = file_output(std::os::fd::OwnedFd::from(writer).into());
    for n in 0..5_000 {
        output.send(format!("{n} {}\n", "x".repeat(100)), WhenFull::DropNew);
    }
    output.send("last words\n".into(), WhenFull::DropOldest);
    let drained = std::thread::spawn(move || {
        let mut text = String::new();
        let mut lines = std::io::BufReader::new(&mut reader);
        while !text.ends_with("last words\n") {
            assert!(std::io::BufRead::read_line(&mut lines, &mut text).unwrap() > 0);
        }
        text
    });
    let text = drained.join().unwrap();
    assert!(text.contains("\"dropped\":"), "nothing was dropped");
}

#[test]
fn one_text_of_any_size_is_taken_and_the_next_is_not() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let output = file_output(std::os::fd::OwnedFd::from(writer).into());
    // The thread takes the first off the queue and is stuck with it.
    output.send("x".repeat(1 << 20), WhenFull::DropNew);
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    output.send("#".repeat(5 << 20), WhenFull::DropNew);
    output.send("@".to_owned(), WhenFull::DropNew);
    output.send("end".into(), WhenFull::DropOldest);
    let drained = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut chunk = [0; 1 << 16];
        while !bytes.ends_with(b"end") {
            let n = reader.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8(bytes).unwrap()
    });
    let text = drained.join().unwrap();
    // The large text gave way to the last words, as did the small one that came after it.
    assert!(!text.contains(['#', '@']));
    assert!(
        text.contains("{\"dropped\":2}\nend"),
        "{:?}",
        &text[text.len() - 200..]
    );
}

#[test]
fn spans_give_their_fields_to_the_events_in_them() {
    let text = written(everything(), Format::Json, || {
        let outer = tracing::info_span!("outer", peer = "Qm", n = 1, late = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("late", 3);
        let _inner = tracing::info_span!("inner", n = 2).entered();
        tracing::info!(own = true, "message");
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (
            &line["peer"],
            &line["n"],
            &line["late"],
            &line["own"],
            &line["msg"]
        ),
        (
            &"Qm".into(),
            &2.into(),
            &3.into(),
            &true.into(),
            &"message".into()
        )
    );
}

#[test]
fn errors_are_logged_with_their_causes() {
    let error = std::io::Error::other(Outer(std::io::Error::other("refused")));
    let text = written(everything(), Format::Json, || {
        tracing::info!(error = &error as &dyn std::error::Error, "dial");
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["error"], "failed to dial: refused");
}

#[derive(Debug, thiserror::Error)]
#[error("failed to dial")]
struct Outer(#[source] std::io::Error);

#[test]
fn operator_lines_carry_the_time() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_226_542);
    assert_eq!(line::stamped("text", now), "2026/11/21 02:02:22 text");
}
