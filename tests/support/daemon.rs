//! One daemon process: started, awaited by its banner, ended by its own handle.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::output::{keep_all, lines, text};
use super::{Control, ControlClient, PATIENCE, Persistent, eventually};

/// The binary under test: `RP2PD_TEST_DAEMON` if set, else the one cargo has just built.
#[must_use]
pub fn binary_under_test() -> PathBuf {
    std::env::var_os("RP2PD_TEST_DAEMON")
        .map_or_else(|| env!("CARGO_BIN_EXE_rp2pd").into(), PathBuf::from)
}

/// How a daemon is to be started.
#[derive(Debug)]
pub struct Launch {
    binary: PathBuf,
    before: Vec<OsString>,
    script: Option<PathBuf>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    listen: Option<String>,
}

impl Launch {
    /// The binary under test on a unix socket of its own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            binary: binary_under_test(),
            before: Vec::new(),
            script: None,
            args: Vec::new(),
            envs: Vec::new(),
            listen: None,
        }
    }

    #[must_use]
    pub fn binary(mut self, path: impl AsRef<Path>) -> Self {
        self.binary = path.as_ref().to_owned();
        self
    }

    /// The program that `binary` interprets, for a daemon that is one.
    #[must_use]
    pub fn script(mut self, path: PathBuf) -> Self {
        self.script = Some(path);
        self
    }

    /// Starts the program under test by way of `sh`, which runs `script` with the program as
    /// `$0` and its arguments.
    #[must_use]
    pub fn shell(mut self, script: &str) -> Self {
        let program = std::mem::replace(&mut self.binary, "/bin/sh".into());
        self.before = vec!["-c".into(), script.into(), program.into()];
        self
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.envs.push((key.into(), value.into()));
        self
    }

    /// The control socket on a port of 127.0.0.1 that the kernel picks.
    #[must_use]
    pub fn tcp(self) -> Self {
        self.listen("/ip4/127.0.0.1/tcp/0")
    }

    #[must_use]
    pub fn listen(mut self, multiaddr: &str) -> Self {
        self.listen = Some(multiaddr.into());
        self
    }

    /// Starts the daemon and returns once it has printed its banner and answers IDENTIFY.
    ///
    /// # Errors
    /// What the daemon said when it ended or kept silent instead.
    pub fn try_spawn(self) -> Result<Daemon, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let listen = self
            .listen
            .unwrap_or_else(|| format!("/unix{}/p2pd.sock", dir.path().display()));
        let mut child = Command::new(&self.binary)
            .args(&self.before)
            .args(self.script)
            .arg(format!("-listen={listen}"))
            .args(&self.args)
            .envs(self.envs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let stdout = Arc::default();
        let stderr = Arc::default();
        let banner = child.stdout.take().map(|out| lines(out, &stdout));
        let mut logs = None;
        if let Some(pipe) = child.stderr.take() {
            let kept = Arc::clone(&stderr);
            logs = Some(std::thread::spawn(move || keep_all(pipe, &kept)));
        }
        let mut daemon = Daemon {
            child,
            dir,
            control: Control::Unix(PathBuf::new()),
            peer_id: PeerId::random(),
            addrs: Vec::new(),
            stdout,
            stderr,
            logs,
        };
        daemon.await_banner(banner.ok_or("no stdout")?)?;
        let (id, addrs) = daemon.client().identify();
        assert_eq!(
            id, daemon.peer_id,
            "banner and IDENTIFY name different peers"
        );
        daemon.addrs = addrs;
        Ok(daemon)
    }

    /// [`Launch::try_spawn`] for a daemon that has no reason to fail.
    #[must_use]
    pub fn spawn(self) -> Daemon {
        self.try_spawn()
            .unwrap_or_else(|reason| panic!("the daemon did not start: {reason}"))
    }
}

/// A running daemon. Dropping it kills the process.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    dir: TempDir,
    control: Control,
    peer_id: PeerId,
    addrs: Vec<Multiaddr>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    logs: Option<JoinHandle<()>>,
}

impl Daemon {
    /// The binary under test with these flags, on a unix socket of its own.
    #[must_use]
    pub fn spawn(args: &[&str]) -> Self {
        Launch::new().args(args).spawn()
    }

    /// A new control connection.
    #[must_use]
    pub fn client(&self) -> ControlClient {
        ControlClient::connect(&self.control)
            .unwrap_or_else(|error| panic!("{}: {error}", self.control.multiaddr()))
    }

    /// A new persistent connection.
    #[must_use]
    pub fn persistent(&self) -> Persistent {
        Persistent::connect(&self.control)
            .unwrap_or_else(|error| panic!("{}: {error}", self.control.multiaddr()))
    }

    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The addresses IDENTIFY gave at start.
    #[must_use]
    pub fn addrs(&self) -> &[Multiaddr] {
        &self.addrs
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A directory that lives as long as the daemon; its unix socket lies in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything printed on stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Everything printed on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal).unwrap_or_else(|error| panic!("signal: {error}"));
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self, timeout: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(timeout)
            .unwrap_or_else(|| panic!("still alive {timeout:?} after SIGTERM"))
    }

    /// The exit status, or `None` if the daemon still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let _ = eventually(timeout, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status
    }

    /// Connects this daemon to `other` at the addresses `other` listens on.
    pub fn connect_to(&self, other: &Self) {
        self.client().connect_peer(other.peer_id, &other.addrs);
    }

    fn await_banner(&mut self, banner: Receiver<String>) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let (mut control, mut peer) = (None, None);
        loop {
            match banner.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(addr) = line.strip_prefix("Control socket: ") {
                        control = Control::parse(addr);
                    } else if let Some(id) = line.strip_prefix("Peer ID: ") {
                        peer = id.parse().ok();
                    } else if line == "Peer Addrs:" {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no banner in {PATIENCE:?}: {}", self.output()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait(PATIENCE);
                    // The reason is the last line; the reader must have got it.
                    let _ = eventually(PATIENCE, || {
                        self.logs.as_ref().is_none_or(JoinHandle::is_finished)
                    });
                    return Err(format!("{status:?}: {}", self.output()));
                }
            }
        }
        self.control = control.ok_or_else(|| self.output())?;
        self.peer_id = peer.ok_or_else(|| self.output())?;
        Ok(())
    }

    fn output(&self) -> String {
        format!("stdout {:?}, stderr {:?}", self.stdout(), self.stderr())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("RP2PD_TEST_OUTPUT").is_some() {
            eprintln!("daemon {} said: {}", self.pid(), self.output());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
