//! A Redis of one's own, for what coordinates its participants by one.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::program::run;
use super::suite::Toolchain;
use crate::support::{PATIENCE, eventually};

/// Ports tried: another process may take one between its choice and its use.
const TRIES: usize = 8;

/// `redis-server` is installed.
pub fn toolchain() -> Toolchain {
    run(
        Command::new("redis-server").arg("--version"),
        std::time::Duration::from_secs(60),
    )
    .map(drop)
    .map_err(|_| "no redis-server".into())
}

/// A server on loopback that keeps nothing; ends when it is dropped.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Redis {
    pub fn start() -> Result<Self, String> {
        (0..TRIES)
            .find_map(|_| Self::try_start().ok())
            .ok_or_else(|| format!("redis-server does not answer on any of {TRIES} ports"))
    }

    fn try_start() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = free_port()?;
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut redis = Self {
            child,
            port,
            _directory: directory,
        };
        let mut has_ended = false;
        let answers = eventually(PATIENCE, || {
            has_ended = redis.child.try_wait().is_ok_and(|status| status.is_some());
            has_ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        if answers && !has_ended {
            return Ok(redis);
        }
        Err("redis-server does not answer".into())
    }

    /// As the matrices name it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of loopback on which nobody listens, for as long as nobody takes it.
pub fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port())
        .map_err(|error| error.to_string())
}
