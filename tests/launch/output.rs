//! Nobody reads stderr: the daemon neither waits for a reader nor piles up threads for one.

use std::io::{PipeReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::binary_under_test;
use crate::support::output::full_pipe;
use crate::support::{Control, ControlClient, PATIENCE, eventually};

/// A bootstrap peer where nobody listens.
const NOBODY: &str = "/ip4/127.0.0.1/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

/// Far more than a daemon without streams needs to end, far less than for ever.
const END: Duration = Duration::from_secs(15);

/// A daemon whose stderr is a full pipe; killed at the end of the test.
struct Unread {
    child: Child,
    stderr: PipeReader,
    control: Control,
    _dir: tempfile::TempDir,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Unread {
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path: PathBuf = dir.path().join("p2pd.sock");
        let (stderr, full) = full_pipe();
        let child = Command::new(binary_under_test())
            .arg(format!("-listen=/unix{}", path.display()))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(full)
            .spawn()
            .expect("start the daemon");
        Self {
            child,
            stderr,
            control: Control::Unix(path),
            _dir: dir,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).expect("signal");
    }

    fn end(&mut self, within: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let _ = eventually(within, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status
    }

    fn threads(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks.map_or(0, Iterator::count)
    }

    /// Whether the pipe is as full as it was at the start.
    fn is_full(&self) -> bool {
        rustix::io::ioctl_fionread(&self.stderr).is_ok_and(|waiting| waiting >= 65_536)
    }
}

/// The failures of the bootstrap peers are lines for the operator.
#[test]
fn unreachable_bootstrap_peers_end_the_start_though_nobody_reads_why() {
    let mut daemon = Unread::start(&["-noListenAddrs", "-b", "-bootstrapPeers", NOBODY]);
    let mut status = daemon.end(END);
    let by_itself = status.is_some();
    if !by_itself {
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::TERM);
        status = daemon.end(END);
    }
    assert!(daemon.is_full(), "somebody has read");
    assert!(
        by_itself,
        "it hangs, and two SIGTERM made it end with {status:?}"
    );
    assert_eq!(status.and_then(|status| status.code()), Some(1));
}

#[test]
fn the_last_words_reach_a_reader_who_comes_late() {
    let mut daemon = Unread::start(&["-noListenAddrs", "-b", "-bootstrapPeers", NOBODY]);
    let control = daemon.control.clone();
    assert!(eventually(PATIENCE, || ControlClient::connect(&control).is_ok()));
    let mut stderr = daemon.stderr.try_clone().expect("clone");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("read");
        text
    });
    let status = daemon.end(PATIENCE).expect("an end");
    assert_eq!(status.code(), Some(1));
    let text = reader.join().expect("the reader");
    let last = text.trim_start().lines().last().expect("a line");
    assert!(
        last.contains("failed to connect to bootstrap peers"),
        "{last}"
    );
}

#[test]
fn a_thousand_reports_that_nobody_reads_cost_no_threads() {
    let mut daemon = Unread::start(&["-noListenAddrs"]);
    let control = daemon.control.clone();
    assert!(eventually(PATIENCE, || ControlClient::connect(&control).is_ok()));
    let mut client = ControlClient::connect(&control).expect("connect");
    let _ = client.identify();
    let before = daemon.threads();
    for _ in 0..1_000 {
        daemon.signal(Signal::USR1);
        // Signals that come too close together count as one.
        let _ = client.identify();
    }
    let after = daemon.threads();
    assert!(daemon.is_full(), "somebody has read");
    assert!(
        after <= before + 8,
        "{before} threads before, {after} after"
    );
    daemon.signal(Signal::TERM);
    let mut stderr = daemon.stderr.try_clone().expect("clone");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("read");
        text
    });
    assert_eq!(
        daemon.end(PATIENCE).and_then(|status| status.code()),
        Some(0)
    );
    // More reports were made than threads are allowed. How many of them are still written at the
    // end depends on how busy the machine is.
    let reports = reader
        .join()
        .expect("the reader")
        .matches("End of limits\n")
        .count();
    assert!(reports > 16, "only {reports} reports");
}
