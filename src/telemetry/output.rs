//! One bounded queue and one thread for each place that text goes to.
//!
//! A pipe that nobody reads, or a disk that hangs, blocks the thread that writes to it. Nothing
//! else in the daemon ever waits for it.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::time::{Instant, SystemTime};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::line::{self, Format};
use crate::wording::system_error;

/// Texts that wait while the reader is slow: some seconds of debug logs.
const MAX_WAITING: usize = 1024;

/// Bytes of all texts that wait.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// Texts that were dropped, of all queues.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Texts that nobody gets since a reader was too slow, since the start.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Relaxed)
}

/// Where text goes.
#[derive(Debug)]
pub(super) enum Target {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A log file, until a write fails.
    File {
        /// The open file.
        file: File,
        /// Takes its place then.
        stderr: Output,
        /// Whether stderr gets the same text anyway.
        on_stderr_too: bool,
    },
    /// Another queue, in place of a log file that failed.
    Queue(Output),
    /// Nowhere.
    Discard,
}

/// What is given up when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// The new text: of a flood of log lines the first ones explain it.
    DropNew,
    /// The oldest texts: the last line says why the daemon ends.
    DropOldest,
}

/// The way to one target; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The thread has something to write.
    filled: Condvar,
    /// The thread has nothing left to write.
    idle: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<String>,
    /// Bytes of `waiting`.
    bytes: usize,
    /// Texts dropped since the last one that was written.
    dropped: u64,
    /// How the loss of texts is reported.
    format: Format,
    /// Whether the thread is writing a text.
    writing: bool,
    /// Handed to the thread, which starts with the first text.
    target: Option<Target>,
}

impl Output {
    pub(super) fn new(target: Target) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                dropped: 0,
                format: Format::Plain,
                writing: false,
                target: Some(target),
            }),
            filled: Condvar::new(),
            idle: Condvar::new(),
        }))
    }

    /// Sets the format in which a loss is reported.
    pub(super) fn set_format(&self, format: Format) {
        self.0.state.lock().format = format;
    }

    /// Queues a text. Never waits for the reader.
    pub(super) fn send(&self, text: String, when_full: WhenFull) {
        let mut state = self.0.state.lock();
        if let Some(target) = state.target.take() {
            self.start(target);
        }
        state.push(text, when_full);
        self.0.filled.notify_one();
    }

    /// Waits until all texts so far are written, at most until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let mut state = self.0.state.lock();
        // Out of time or not, there is nothing more to do.
        let _ = self.0.idle.wait_while_until(&mut state, busy, deadline);
    }

    /// Without a thread the queue fills up and drops texts, and the daemon goes on.
    fn start(&self, target: Target) {
        let shared = Arc::clone(&self.0);
        let name = match target {
            Target::Stderr => "stderr",
            Target::Stdout => "stdout",
            _ => "log file",
        };
        let thread = std::thread::Builder::new().name(name.into());
        drop(thread.spawn(move || shared.run(target)));
    }
}

impl State {
    fn push(&mut self, text: String, when_full: WhenFull) {
        while self.is_full_for(&text) {
            self.dropped += 1;
            LOST.fetch_add(1, Relaxed);
            if when_full == WhenFull::DropNew {
                return;
            }
            let oldest = self.waiting.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.len());
        }
        self.bytes += text.len();
        self.waiting.push_back(text);
    }

    /// A single text is taken whatever its size.
    fn is_full_for(&self, text: &str) -> bool {
        !self.waiting.is_empty()
            && (self.waiting.len() >= MAX_WAITING
                || self.bytes.saturating_add(text.len()) > MAX_WAITING_BYTES)
    }
}

impl Shared {
    fn run(&self, mut target: Target) {
        loop {
            for text in self.next().into_iter().flatten() {
                if let Some(instead) = target.write(text) {
                    target = instead;
                }
            }
        }
    }

    /// Waits for the next text; the report of what was lost before it comes first.
    fn next(&self) -> [Option<String>; 2] {
        let mut state = self.state.lock();
        loop {
            if let Some(text) = state.waiting.pop_front() {
                state.bytes -= text.len();
                state.writing = true;
                let dropped = std::mem::take(&mut state.dropped);
                let report =
                    (dropped > 0).then(|| line::dropped(dropped, state.format, SystemTime::now()));
                return [report, Some(text)];
            }
            state.writing = false;
            self.idle.notify_all();
            self.filled.wait(&mut state);
        }
    }
}

impl Target {
    /// Writes a text; returns the target of the texts that follow if it cannot be this one.
    ///
    /// One system call does it if the system takes the text whole: texts of other processes must
    /// not fall in between, and some readers take a chunk for a message.
    fn write(&self, text: String) -> Option<Self> {
        let (file, stderr, on_stderr_too) = match self {
            // A console that nobody reads any more is no error.
            Self::Stderr => {
                let _ = write(std::io::stderr().as_fd(), &text);
                return None;
            }
            Self::Stdout => {
                let _ = write(std::io::stdout().as_fd(), &text);
                return None;
            }
            Self::Queue(output) => {
                output.send(text, WhenFull::DropNew);
                return None;
            }
            Self::Discard => return None,
            Self::File {
                file,
                stderr,
                on_stderr_too,
            } => (file, stderr, *on_stderr_too),
        };
        let error = write(file.as_fd(), &text).err()?;
        // As on a full disk.
        let reason = system_error(&error.into());
        let report = format!("log file failed, logs go to stderr: {reason}");
        let report = line::stamped(&report, SystemTime::now());
        stderr.send(report + "\n", WhenFull::DropOldest);
        if on_stderr_too {
            return Some(Self::Discard);
        }
        stderr.send(text, WhenFull::DropNew);
        Some(Self::Queue(stderr.clone()))
    }
}

fn write(target: BorrowedFd<'_>, text: &str) -> Result<(), Errno> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(target, rest) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Whoever shares the pipe has set it so; the thread waits as the others would.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&target, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
