//! What a daemon prints: read as it comes, kept up to a limit.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Output kept per stream; a daemon that logs more than this has its later lines dropped.
const OUTPUT_KEPT: usize = 4 << 20;

/// Reads stdout to its end on a thread; lines are offered to the receiver as they come.
pub(super) fn lines(out: ChildStdout, kept: &Arc<Mutex<Vec<u8>>>) -> Receiver<String> {
    let (sender, receiver) = sync_channel(256);
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            keep(&kept, format!("{line}\n").as_bytes());
            // After the banner nobody listens any more; the output is kept all the same.
            let _ = sender.try_send(line);
        }
    });
    receiver
}

pub(super) fn keep_all(mut pipe: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut chunk) {
        keep(kept, &chunk[..n]);
    }
}

fn keep(kept: &Mutex<Vec<u8>>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let room = OUTPUT_KEPT - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

pub(super) fn text(kept: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&kept.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// A pipe whose buffer is full, for a child to write to; the reader must be kept.
#[must_use]
pub fn full_pipe() -> (std::io::PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let filler = writer.try_clone().expect("clone");
    let flags = rustix::fs::fcntl_getfl(&filler).expect("flags");
    rustix::fs::fcntl_setfl(&filler, flags | rustix::fs::OFlags::NONBLOCK).expect("nonblocking");
    while rustix::io::write(&filler, &[b' '; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&filler, flags).expect("blocking again");
    (reader, writer.into())
}
