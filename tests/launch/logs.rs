//! Logs of a running daemon: where they go, how they look, and that nobody waits for them.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::rp2pd;
use crate::support::daemon::binary_under_test;
use crate::support::{Daemon, Launch, PATIENCE, eventually};

/// A daemon that logs a few lines at debug level: one connection comes and goes.
fn with_traffic(launch: Launch) -> Daemon {
    let daemon = launch.args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"]).spawn();
    let other = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    other.connect_to(&daemon);
    drop(other);
    daemon
}

/// The log lines of a stderr that also carries lines for the operator.
fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .filter(|line| line.contains("\"logger\""))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn json_lines_have_what_hivemind_needs() {
    let launch = Launch::new()
        .env("GOLOG_LOG_LEVEL", "debug")
        .env("GOLOG_LOG_FMT", "json");
    let daemon = with_traffic(launch);
    assert!(eventually(PATIENCE, || !json_lines(&daemon.stderr()).is_empty()));
    for line in json_lines(&daemon.stderr()) {
        let text = |key: &str| {
            line[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key}: {line}"))
        };
        assert!(
            ["debug", "info", "warn", "error"].contains(&text("level")),
            "{line}"
        );
        let ts = text("ts");
        assert!(
            ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[19] == b'.',
            "{line}"
        );
        for key in ["logger", "caller", "msg"] {
            assert!(!text(key).starts_with('/'), "{line}");
        }
    }
}

#[test]
fn errors_only_unless_told_otherwise() {
    let daemon = with_traffic(Launch::new());
    // Its own end proves that nothing was left to say.
    let mut daemon = daemon;
    assert!(daemon.terminate(PATIENCE).success());
    assert_eq!(daemon.stderr(), "");
}

#[test]
fn a_log_file_takes_the_lines_off_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let launch = Launch::new()
        .env("IPFS_LOGGING", "DEBUG")
        .env("IPFS_LOGGING_FMT", "nocolor")
        .env("GOLOG_FILE", path.to_str().unwrap());
    let mut daemon = with_traffic(launch);
    assert!(daemon.terminate(PATIENCE).success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() > 0);
    for line in text.lines() {
        assert!(line.split('\t').count() >= 5, "{line}");
    }
    assert_eq!(daemon.stderr(), "");
}

#[test]
fn a_bad_environment_is_complained_of_and_no_more() {
    let daemon = Launch::new()
        .args(["-noListenAddrs"])
        .env("GOLOG_LOG_LEVEL", "bogus,error")
        .env("GOLOG_LOG_FMT", "weird")
        .env("GOLOG_FILE", "/nonexistent/log")
        .spawn();
    let expected = "error setting log level \"bogus\": unrecognized level: \"bogus\"\n\
                    ignoring unrecognized log format 'weird'\n\
                    unable to open logging output: open /nonexistent/log: no such file or directory\n";
    // What reads the pipe may be a moment behind the banner.
    let told = eventually(PATIENCE, || daemon.stderr().len() >= expected.len());
    assert!(told && daemon.stderr() == expected, "{}", daemon.stderr());
}

/// The disk is full from the first byte on.
#[test]
fn a_full_disk_sends_the_lines_to_stderr() {
    let launch = Launch::new()
        .env("GOLOG_LOG_LEVEL", "debug")
        .env("GOLOG_FILE", "/dev/full");
    let mut daemon = with_traffic(launch);
    let told = "log file failed, logs go to stderr: no space left on device";
    assert!(eventually(PATIENCE, || daemon.stderr().contains(told)));
    assert_eq!(daemon.stderr().matches(told).count(), 1);
    assert!(daemon.terminate(PATIENCE).success());
    assert!(daemon.stderr().lines().count() > 1);
}

/// A daemon at debug level whose output ends are handed to `spoil` once it is up, and to
/// `spoiled` once it has logged far more than a pipe holds.
fn spoiled(spoil: impl FnOnce(&mut Child), spoiled: impl Fn(&Child) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listen = format!("/unix{}", path.display());
    let mut child = Command::new(binary_under_test())
        .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-listen", &listen])
        .env("GOLOG_LOG_LEVEL", "debug")
        .env("GOLOG_OUTPUT", "stderr+stdout")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let healthy = || rp2pd(["-healthcheck", "-listen", listen.as_str()]).code == 0;
    let up = eventually(PATIENCE, healthy);
    spoil(&mut child);
    // Each frame that cannot be read is worth a line.
    let noise = (0..2_000).all(|_| {
        let stream = UnixStream::connect(&path);
        stream.is_ok_and(|mut stream| stream.write_all(b"\x01\xff").is_ok())
    });
    let happened = eventually(PATIENCE, || spoiled(&child));
    let still = healthy();
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        up && noise && happened && still && alive,
        "up {up}, noise {noise}, happened {happened}, still {still}, alive {alive}"
    );
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_daemon() {
    spoiled(
        |child| {
            drop(child.stdout.take());
            drop(child.stderr.take());
        },
        |_| true,
    );
}

#[test]
fn a_reader_that_sleeps_does_not_stop_the_daemon() {
    // Either pipe being full stops the thread that writes to both.
    let full = |pipe: Option<&dyn AsFd>| {
        pipe.and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok())
            .is_some_and(|waiting| waiting > 60_000)
    };
    spoiled(
        |_| {},
        |child| {
            full(child.stdout.as_ref().map(|pipe| pipe as &dyn AsFd))
                || full(child.stderr.as_ref().map(|pipe| pipe as &dyn AsFd))
        },
    );
}
