//! Daemon processes under measurement.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary::Side;
use crate::client::{Control, Peer};
use crate::process;

/// Longest wait for a daemon's control socket.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Time between two attempts to reach a daemon that is starting.
const POLL: Duration = Duration::from_micros(200);

/// How two daemons of a pair reach each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    addr: &'static str,
    security: &'static [&'static str],
}

const NOISE: &[&str] = &["-noise=true", "-tls=false"];
const NOISE_DHT: &[&str] = &["-noise=true", "-tls=false", "-dhtServer"];
/// Neither daemon shall trim what it is asked to hold.
const NOISE_CROWD: &[&str] = &[
    "-noise=true",
    "-tls=false",
    "-connManager=true",
    "-connLo=2000",
    "-connHi=4000",
];
const TLS: &[&str] = &["-noise=false", "-tls=true"];

pub(crate) const TCP_NOISE: Link = Link {
    name: "tcp-noise",
    addr: "/ip4/127.0.0.1/tcp/0",
    security: NOISE,
};
pub(crate) const TCP_TLS: Link = Link {
    name: "tcp-tls",
    addr: "/ip4/127.0.0.1/tcp/0",
    security: TLS,
};
pub(crate) const QUIC: Link = Link {
    name: "quic-v1",
    addr: "/ip4/127.0.0.1/udp/0/quic-v1",
    security: &[],
};
pub(crate) const WS_NOISE: Link = Link {
    name: "ws-noise",
    addr: "/ip4/127.0.0.1/tcp/0/ws",
    security: NOISE,
};
/// Hundreds of peers at once.
pub(crate) const CROWD: Link = Link {
    name: "tcp-noise",
    addr: "/ip4/127.0.0.1/tcp/0",
    security: NOISE_CROWD,
};
/// A server of the DHT.
pub(crate) const DHT: Link = Link {
    name: "dht",
    addr: "/ip4/127.0.0.1/tcp/0",
    security: NOISE_DHT,
};
/// What a daemon with ordinary flags listens on.
pub(crate) const USUAL: Link = Link {
    name: "tcp+quic",
    addr: "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1",
    security: &[],
};

/// A running daemon; ends with the value.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    home: TempDir,
}

impl Daemon {
    /// Starts `side` and waits until it answers IDENTIFY; `link` none means no listeners.
    ///
    /// # Errors
    /// The program ends or stays mute.
    pub(crate) fn start(side: &Side, link: Option<Link>) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("compare").tempdir()?;
        let mut command = Command::new(&side.path);
        command.arg(format!("-listen=/unix{}/control", home.path().display()));
        if let Some(link) = link {
            command.arg(format!("-hostAddrs={}", link.addr));
            command.args(link.security);
        }
        let child = command
            .args(&side.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", side.path.display()))?;
        let mut daemon = Self { child, home };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match daemon.control().and_then(|mut control| control.identify()) {
                Ok(_) => return Ok(daemon),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("{} does not answer", side.name)));
                }
                Err(_) => sleep(POLL),
            }
            if let Some(status) = daemon.child.try_wait()? {
                bail!("{} ended at once: {status}", side.name);
            }
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("control")
    }

    pub(crate) fn control(&self) -> Result<Control> {
        Control::open(&self.socket())
    }

    pub(crate) fn identify(&self) -> Result<Peer> {
        self.control()?.identify()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            // Fails only if the process is gone, which is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Two daemons of one kind, connected.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) opener: Daemon,
    pub(crate) target: Daemon,
    /// The target, as the opener knows it.
    pub(crate) peer: Peer,
}

impl Pair {
    /// Starts two daemons that listen on `link`, not yet connected.
    pub(crate) fn start(side: &Side, link: Link) -> Result<Self> {
        let opener = Daemon::start(side, Some(link))?;
        let target = Daemon::start(side, Some(link))?;
        let peer = target.identify()?;
        Ok(Self {
            opener,
            target,
            peer,
        })
    }

    /// Starts two daemons and connects them.
    pub(crate) fn connected(side: &Side, link: Link) -> Result<Self> {
        let pair = Self::start(side, link)?;
        pair.opener.control()?.connect(&pair.peer)?;
        Ok(pair)
    }

    /// Processor seconds of both daemons.
    pub(crate) fn cpu(&self) -> Result<f64> {
        Ok(process::cpu(self.opener.pid())? + process::cpu(self.target.pid())?)
    }

    /// Resident memory of both daemons, in KiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        let opener = process::memory(self.opener.pid())?;
        let target = process::memory(self.target.pid())?;
        Ok(opener.total + target.total)
    }

    /// Open files of both daemons.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(process::open_files(self.opener.pid())? + process::open_files(self.target.pid())?)
    }
}
