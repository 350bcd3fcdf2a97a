//! What a service manager sees: readiness, the watchdog, a socket that it has bound. The tests are
//! the manager.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::binary_under_test;
use crate::support::{Control, ControlClient, Launch, PATIENCE, eventually};

/// The socket that the daemon tells.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// The messages so far.
    fn told(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            match self.0.recv(&mut bytes) {
                Ok(length) => messages.push(String::from_utf8_lossy(&bytes[..length]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return messages,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits for a message with this line, and returns it.
    #[track_caller]
    fn waits_for(&self, line: &str) -> String {
        let mut found = None;
        let _ = eventually(PATIENCE, || {
            let told = self.told();
            found = told
                .into_iter()
                .find(|text| text.lines().any(|one| one == line));
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("not told: {line}"))
    }
}

#[test]
fn readiness_and_the_end_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let manager = Manager::at(&notify);
    let mut daemon = Launch::new()
        .args(["-noListenAddrs"])
        .env("NOTIFY_SOCKET", notify.to_str().unwrap())
        .spawn();
    let ready = manager.waits_for("READY=1");
    let status = format!("STATUS=serving as {}", daemon.peer_id());
    assert!(ready.lines().any(|line| line == status), "{ready}");
    assert!(daemon.terminate(PATIENCE).success());
    manager.waits_for("STOPPING=1");
}

/// A daemon that cannot join its network is not ready.
#[test]
fn a_start_that_fails_is_never_ready() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let manager = Manager::at(&notify);
    let peers =
        "-bootstrapPeers=/ip4/127.0.0.1/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";
    let started = Launch::new()
        .args(["-noListenAddrs", "-b", peers])
        .env("NOTIFY_SOCKET", notify.to_str().unwrap())
        .try_spawn();
    assert!(started.is_err());
    let told = manager.told();
    assert!(
        !told.iter().any(|text| text.contains("READY=1")),
        "{told:?}"
    );
}

/// The watchdog is fed by the task that owns the swarm: when that hangs, and nothing else does, the
/// messages stop.
#[test]
fn the_watchdog_starves_when_the_swarm_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let manager = Manager::at(&notify);
    let daemon = Launch::new()
        .args(["-noListenAddrs"])
        .env("NOTIFY_SOCKET", notify.to_str().unwrap())
        .env("WATCHDOG_USEC", "100000")
        .env("RP2PD_TEST_PANICS", dir.path().to_str().unwrap())
        .spawn();
    manager.waits_for("WATCHDOG=1");
    manager.waits_for("WATCHDOG=1");
    let hang = dir.path().join("hang-swarm");
    fs::write(&hang, "").unwrap();
    // Quiet for ten times as long as the messages are apart.
    let mut last = Instant::now();
    let starved = eventually(PATIENCE, || {
        if !manager.told().is_empty() {
            last = Instant::now();
        }
        last.elapsed() > Duration::from_millis(500)
    });
    assert!(starved, "the watchdog is fed without the swarm");
    // The rest of the daemon lives.
    let _ = daemon.client().identify();
    fs::remove_file(&hang).unwrap();
    manager.waits_for("WATCHDOG=1");
}

/// A daemon with the socket that a manager has bound as its descriptor 3.
fn activated(socket: impl Into<OwnedFd>, args: &[&str]) -> Child {
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS
        exec "$0" "$@" 3<&0 </dev/null"#;
    Command::new("/bin/sh")
        .args(["-c", script])
        .arg(binary_under_test())
        .args(args)
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(mut child: Child) -> String {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut text = String::new();
    let mut stderr = child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

/// The first client is served although it came before the daemon, and the file stays for the next.
#[test]
fn a_socket_that_was_passed_is_served_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..2 {
        let mut early = ControlClient::connect(&Control::Unix(path.clone())).unwrap();
        let child = activated(listener.try_clone().unwrap(), &["-noListenAddrs", "-q"]);
        let _ = early.identify();
        assert_eq!(end(child), "");
        assert!(path.exists());
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let child = activated(
        listener,
        &["-noListenAddrs", "-q", "-listen=/unix/tmp/not-used"],
    );
    let _ = ControlClient::connect(&Control::Tcp(address))
        .unwrap()
        .identify();
    let said = end(child);
    assert!(
        said.contains("-listen=/unix/tmp/not-used is not used"),
        "{said}"
    );
}

#[test]
fn what_was_passed_must_be_a_listening_socket() {
    let file = fs::File::open("/dev/null").unwrap();
    let child = activated(file, &["-noListenAddrs"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("it must be a ListenStream="), "{text}");
}
