//! The queue of log lines and the thread that writes them.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::line::{self, Format};
use super::settings::Outputs;
use crate::wording::system_error;

/// Lines that wait while the reader is slow: some seconds of debug logs, a few MiB at worst.
const CAPACITY: usize = 1024;

/// The way to the writer; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The writer has something to do.
    filled: Condvar,
    /// The writer has nothing left to do.
    idle: Condvar,
    format: Format,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<String>,
    /// Lines that found the queue full since the last that was written.
    dropped: u64,
    /// Whether the writer holds a line.
    writing: bool,
    /// Handed to the writer when it starts, with the first line.
    sinks: Option<Vec<Sink>>,
}

impl Queue {
    pub(super) fn new(sinks: Vec<Sink>, format: Format) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                lines: VecDeque::new(),
                dropped: 0,
                writing: false,
                sinks: Some(sinks),
            }),
            filled: Condvar::new(),
            idle: Condvar::new(),
            format,
        }))
    }

    /// Queues a line; if the queue is full, counts it as dropped. Never waits for a reader.
    pub(super) fn send(&self, line: String) {
        let mut state = self.0.lock();
        if let Some(sinks) = state.sinks.take() {
            self.start(sinks);
        }
        if state.lines.len() < CAPACITY {
            state.lines.push_back(line);
            self.0.filled.notify_one();
        } else {
            state.dropped += 1;
        }
    }

    /// Waits until the lines so far are written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        let state = self.0.lock();
        // Out of time or not, there is nothing more to do.
        drop(self.0.idle.wait_timeout_while(state, limit, busy));
    }

    /// Without a thread the queue fills up and drops lines, and the daemon goes on.
    fn start(&self, sinks: Vec<Sink>) {
        let mut writer = Writer {
            shared: Arc::clone(&self.0),
            sinks,
        };
        drop(
            std::thread::Builder::new()
                .name("logs".into())
                .spawn(move || writer.run()),
        );
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place that lines go to.
#[derive(Debug)]
pub(super) enum Sink {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file.
    File(File),
}

/// Opens `outputs`; a file that cannot be opened is complained of and stderr takes its place.
pub(super) fn open(outputs: &Outputs) -> (Vec<Sink>, Option<String>) {
    let mut sinks = Vec::new();
    let mut complaint = None;
    let mut stderr = outputs.stderr;
    if outputs.stdout {
        sinks.push(Sink::Stdout);
    }
    if let Some(path) = &outputs.file {
        match OpenOptions::new().append(true).create(true).open(path) {
            Ok(file) => sinks.push(Sink::File(file)),
            Err(error) => {
                let (path, reason) = (path.display(), system_error(&error));
                complaint = Some(format!(
                    "unable to open logging output: open {path}: {reason}"
                ));
                stderr = true;
            }
        }
    }
    if stderr {
        sinks.push(Sink::Stderr);
    }
    (sinks, complaint)
}

struct Writer {
    shared: Arc<Shared>,
    sinks: Vec<Sink>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let (line, dropped) = self.next();
            if dropped > 0 {
                self.write(&line::dropped(
                    dropped,
                    self.shared.format,
                    SystemTime::now(),
                ));
            }
            self.write(&line);
        }
    }

    fn next(&self) -> (String, u64) {
        let mut state = self.shared.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.writing = true;
                return (line, std::mem::take(&mut state.dropped));
            }
            state.writing = false;
            self.shared.idle.notify_all();
            let woken = self.shared.filled.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a whole line at once to each sink: lines of others must not fall in between.
    fn write(&mut self, line: &str) {
        let mut failed = None;
        for sink in &self.sinks {
            // A console that nobody reads any more is no error.
            match sink {
                Sink::Stderr => drop(std::io::stderr().lock().write_all(line.as_bytes())),
                Sink::Stdout => drop(write_stdout(line)),
                Sink::File(file) => failed = (&mut &*file).write_all(line.as_bytes()).err(),
            }
        }
        if let Some(error) = failed {
            self.abandon_file(&error, line);
        }
    }

    /// After a failed write, as on a full disk, lines go to stderr, `line` first.
    fn abandon_file(&mut self, error: &std::io::Error, line: &str) {
        let reason = system_error(error);
        super::console::operator_line(&format!("log file failed, logs go to stderr: {reason}"));
        self.sinks.retain(|sink| !matches!(sink, Sink::File(_)));
        if !self.sinks.iter().any(|sink| matches!(sink, Sink::Stderr)) {
            self.sinks.push(Sink::Stderr);
            drop(std::io::stderr().lock().write_all(line.as_bytes()));
        }
    }
}

fn write_stdout(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}
