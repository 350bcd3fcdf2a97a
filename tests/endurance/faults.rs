//! What happens to a host or a network: a disk that is full, packets that get lost, a partition, a
//! clock that jumps. `RP2PD_TEST_FAULT_SECONDS` is how long each lasts; without it the trials are
//! ignored. Each asserts that its fault took place.

pub mod clock;
pub mod disk;
pub mod loss;
pub mod partition;

use std::io::{self, Read, Write};
use std::process::Command;
use std::time::Duration;

use super::setting;
use crate::support::{Daemon, Handler, PATIENCE, Pipe, payload};

/// What the names of these trials begin with.
pub const PREFIX: &str = "faults::";

/// The protocol that is used meanwhile.
const ECHO: &str = "/faults/echo";

/// What goes one way and comes back in one exchange, in bytes.
const SIZE: usize = 32 << 10;

/// How long each fault is to last.
pub fn length() -> Option<Duration> {
    setting("RP2PD_TEST_FAULT_SECONDS").map(Duration::from_secs)
}

/// Runs shell commands in the namespaces of the trial, and returns what they print.
pub fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-e", "-c", script]).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Echoes streams of any number to the peers of `daemon` for as long as this program runs.
fn serve_echo(daemon: &Daemon) {
    let handler = Handler::unix();
    handler
        .register(&mut daemon.client(), &[ECHO], None)
        .expect("a handler");
    std::thread::spawn(move || {
        loop {
            if let Ok((_, pipe)) = handler.accept(PATIENCE) {
                std::thread::spawn(move || echo(pipe));
            }
        }
    });
}

fn echo(mut pipe: Pipe) -> io::Result<()> {
    let mut chunk = vec![0; SIZE];
    loop {
        match pipe.read(&mut chunk)? {
            0 => return pipe.socket.shutdown_write(),
            n => pipe.write_all(&chunk[..n])?,
        }
    }
}

/// Opens a stream from `near` to `far`, and has bytes echoed.
///
/// # Errors
/// Why it was not completed. What comes back and is not what was sent ends the trial.
fn exchange(near: &Daemon, far: &Daemon, number: u64) -> Result<(), String> {
    let (_, mut pipe) = near.client().open_stream(far.peer_id(), &[ECHO])?;
    let sent = payload(SIZE, number);
    let mut echoed = Vec::new();
    let done = (|| {
        pipe.socket.set_timeout(2 * PATIENCE)?;
        pipe.write_all(&sent)?;
        pipe.socket.shutdown_write()?;
        pipe.read_to_end(&mut echoed)
    })();
    assert!(sent.starts_with(&echoed), "other bytes came back");
    match done {
        Ok(_) if echoed.len() == sent.len() => Ok(()),
        Ok(read) => panic!("{read} bytes of {}, and no error", sent.len()),
        Err(error) => Err(error.to_string()),
    }
}
