//! One running adapter: its environment, what it prints, how it ends.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::install;
use crate::interop::redis::Redis;
use crate::support::eventually;
use crate::support::lab::Host;

/// For a whole participant on a busy machine; more than the timeout that it is given.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Every variable that an adapter sees, beside the path of programs.
#[derive(Debug, Clone)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    pub fn new() -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        Self(vec![("PATH".into(), path)])
    }

    /// What both sides of every test of the current matrix get.
    pub fn modern(redis: &Redis) -> Self {
        Self::new()
            .set("REDIS_ADDR", &redis.address())
            .set("TEST_KEY", "a5b50d5e")
            .set("TEST_TIMEOUT_SECS", "60")
            .set("DEBUG", "false")
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    pub fn daemon(self, path: &Path) -> Self {
        self.set("P2PD", &path.display().to_string())
    }
}

/// How an adapter ended, and all that it said.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A running adapter; ends when it is dropped, and its daemon with it.
#[derive(Debug)]
pub struct Participant {
    child: Child,
    outputs: [Arc<Mutex<Vec<u8>>>; 2],
    readers: Vec<JoinHandle<()>>,
}

impl Participant {
    pub fn start(test: &str, environment: Environment) -> Result<Self, String> {
        Self::run(&[test], environment)
    }

    pub fn run(words: &[&str], environment: Environment) -> Result<Self, String> {
        Self::spawn(Command::new("python3"), words, environment)
    }

    /// As [`Participant::start`], on another host.
    pub fn on(host: &Host, test: &str, environment: Environment) -> Result<Self, String> {
        Self::spawn(host.command("python3"), &[test], environment)
    }

    fn spawn(
        mut python: Command,
        words: &[&str],
        environment: Environment,
    ) -> Result<Self, String> {
        let mut child = python
            .arg("-B")
            .arg(install::source("adapter"))
            .args(words)
            .env_clear()
            .envs(environment.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let outputs: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(keep(pipe, &outputs[0]));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(keep(pipe, &outputs[1]));
        }
        Ok(Self {
            child,
            outputs,
            readers,
        })
    }

    /// Waits until it prints `text`.
    pub fn said(&self, text: &str) -> Result<(), String> {
        let said = || self.outputs.iter().any(|kept| shown(kept).contains(text));
        if eventually(PATIENCE, said) {
            return Ok(());
        }
        Err(format!(
            "it does not say {text:?}: {}",
            shown(&self.outputs[1])
        ))
    }

    /// Waits for its own end.
    pub fn end(mut self) -> Result<Outcome, String> {
        let mut status = None;
        let has_ended = eventually(PATIENCE, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some() && self.readers.iter().all(JoinHandle::is_finished)
        });
        let [stdout, stderr] = self.outputs.each_ref().map(|kept| shown(kept));
        match status {
            Some(status) if has_ended => Ok(Outcome {
                code: status.code(),
                stdout,
                stderr,
            }),
            // What still holds its outputs open is a child of its own.
            Some(_) => Err(format!("it left something running: {stderr}")),
            None => Err(format!("no end in {PATIENCE:?}: {stdout}{stderr}")),
        }
    }

    /// Asks it to end, as a matrix does with a listener.
    pub fn terminate(self) -> Result<Outcome, String> {
        self.signal(Signal::TERM);
        self.end()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // The kernel ends its daemon with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(mut pipe: impl Read + Send + 'static, kept: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&chunk[..n]);
        }
    })
}

fn shown(kept: &Mutex<Vec<u8>>) -> String {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&kept).into_owned()
}
