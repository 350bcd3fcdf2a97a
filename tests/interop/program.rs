//! Foreign programs: run to their end, under a deadline.

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::eventually;

/// Output kept of one program: its end, where the reason for a failure stands.
const OUTPUT_KEPT: usize = 64 << 10;

/// Runs `command` to its end and returns what it printed on stdout.
///
/// # Errors
/// It could not be started, did not end in time (it is then killed), or failed; with what
/// it said on both outputs.
pub fn run(command: &mut Command, timeout: Duration) -> Result<String, String> {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{what}: {error}"))?;
    let said = Arc::default();
    let printed = Arc::default();
    let readers = [
        child.stdout.take().map(|pipe| collect(pipe, &printed)),
        child.stderr.take().map(|pipe| collect(pipe, &said)),
    ];
    let mut status: Option<ExitStatus> = None;
    let _ = eventually(timeout, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    // A grandchild that outlives the program may hold its outputs open: wait only so long.
    let _ = eventually(Duration::from_secs(5), || {
        readers.iter().flatten().all(JoinHandle::is_finished)
    });
    let (printed, said) = (text(&printed), text(&said));
    match status {
        Some(status) if status.success() => Ok(printed),
        Some(status) => Err(format!("{what}: {status}\n{printed}\n{said}")),
        None => Err(format!("{what}: no end in {timeout:?}\n{printed}\n{said}")),
    }
}

fn collect(
    mut pipe: impl Read + Send + 'static,
    kept: &Arc<Mutex<VecDeque<u8>>>,
) -> JoinHandle<()> {
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&chunk[..n]);
            let excess = kept.len().saturating_sub(OUTPUT_KEPT);
            kept.drain(..excess);
        }
    })
}

fn text(kept: &Mutex<VecDeque<u8>>) -> String {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}
