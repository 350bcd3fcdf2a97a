//! stdout and stderr that nobody reads, or that are closed, hurt nobody.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::binary_under_test;
use crate::support::output::full_pipe;
use crate::support::{Control, ControlClient, PATIENCE, eventually};

/// A daemon with streams of its own; killed at the end of the test.
struct Bare {
    child: Child,
    control: Control,
    _dir: tempfile::TempDir,
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bare {
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("p2pd.sock");
        let child = Command::new(binary_under_test())
            .arg(format!("-listen=/unix{}", path.display()))
            .arg("-hostAddrs=/ip4/127.0.0.1/tcp/0")
            .env("GOLOG_LOG_LEVEL", "debug")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("start the daemon");
        let daemon = Self {
            child,
            control: Control::Unix(path.clone()),
            _dir: dir,
        };
        assert!(eventually(PATIENCE, || UnixStream::connect(&path).is_ok()));
        daemon
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).expect("signal");
    }

    /// Many requests that are logged, then a report and an orderly end.
    fn assert_works(mut self) {
        for _ in 0..300 {
            let mut client = ControlClient::connect(&self.control).expect("connect");
            let _ = client.identify();
            // Bytes that are no request are worth a log line.
            client.send_raw(&[1, 0xff]).expect("send");
            let _ = client.pipe.read_frame().expect("an answer");
        }
        for _ in 0..100 {
            self.signal(Signal::USR1);
            let _ = ControlClient::connect(&self.control)
                .expect("connect")
                .identify();
        }
        self.signal(Signal::TERM);
        let mut status = None;
        assert!(
            eventually(Duration::from_secs(10), || {
                status = self.child.try_wait().ok().flatten();
                status.is_some()
            }),
            "no end"
        );
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
}

#[test]
fn full_pipes_do_not_block_the_daemon() {
    let (_out, stdout) = full_pipe();
    let (_err, stderr) = full_pipe();
    Bare::start(stdout, stderr).assert_works();
}

#[test]
fn pipes_whose_reader_has_gone_do_not_kill_it() {
    let gone = || Stdio::from(std::io::pipe().expect("a pipe").1);
    Bare::start(gone(), gone()).assert_works();
}

#[test]
fn a_reader_that_leaves_after_the_banner_does_not_kill_it() {
    let mut daemon = Bare::start(Stdio::piped(), Stdio::piped());
    let mut banner = BufReader::new(daemon.child.stdout.take().expect("stdout"));
    let mut line = String::new();
    banner.read_line(&mut line).expect("a line");
    assert!(line.starts_with("Control socket: "), "{line}");
    drop((banner, daemon.child.stderr.take()));
    daemon.assert_works();
}
