//! A hundred normal clients, each at its own pace, and how long they wait.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Daemon, PATIENCE, Pipe, eventually};

/// How many there are.
pub const CLIENTS: usize = 100;

/// Between two rounds of one client.
const PACE: Duration = Duration::from_millis(250);

/// What the 99th percentile must not reach while something is wrong, on a quiet machine and with
/// a release build.
const P99: Duration = Duration::from_millis(50);

/// By how much more a machine may delay everything: other processes share it, and a debug build
/// takes several times the processor time.
const PATIENCE_FACTOR: &str = "RP2PD_TEST_PATIENCE";
const DEFAULT_FACTOR: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

/// What a client does with its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// A new one each round, on a control connection of its own.
    New,
    /// One for all rounds.
    Kept,
}

/// Clients of one daemon, each asking IDENTIFY and having 64 bytes echoed by another daemon.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<Duration>>>,
}

/// Waiting times of all rounds of a crowd, in order of length.
#[derive(Debug)]
pub struct Waits(Vec<Duration>);

impl Crowd {
    /// Clients of `daemon`, whose streams lead to `other`. Returns when each has done its first
    /// round.
    #[must_use]
    pub fn start(daemon: &Daemon, other: &Daemon, streams: Streams) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let threads = (0..CLIENTS)
            .map(|number| {
                let client = Client {
                    control: daemon.client(),
                    stream: None,
                    streams,
                    another: connect_again(daemon),
                    other: other.peer_id(),
                };
                let first = Instant::now() + PACE * u32::try_from(number).expect("few") / 100;
                let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
                std::thread::spawn(move || client.run(first, &stop, &rounds))
            })
            .collect();
        let crowd = Self {
            stop,
            rounds,
            threads,
        };
        crowd.await_rounds(CLIENTS);
        crowd
    }

    /// Rounds done so far.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits for so many more rounds of all clients together.
    pub fn await_rounds(&self, more: usize) {
        let wanted = self.rounds() + more;
        assert!(
            eventually(PATIENCE, || self.rounds() >= wanted),
            "the clients are not served: {} of {wanted} rounds",
            self.rounds()
        );
    }

    /// Ends them; how long they waited.
    #[must_use]
    pub fn finish(mut self) -> Waits {
        self.stop.store(true, Ordering::Relaxed);
        let mut waits: Vec<Duration> = std::mem::take(&mut self.threads)
            .into_iter()
            .flat_map(|thread| thread.join().expect("a client that was served"))
            .collect();
        waits.sort_unstable();
        Waits(waits)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a client says is of interest only where it is waited for.
            let _ = thread.join();
        }
    }
}

impl Waits {
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    /// Prints the waiting times; fails if the 99th percentile is too long.
    pub fn assert_short(&self, during: &str) {
        let factor = std::env::var(PATIENCE_FACTOR)
            .ok()
            .and_then(|factor| factor.parse().ok())
            .unwrap_or(DEFAULT_FACTOR);
        let limit = P99 * factor;
        let (half, most, all) = (
            self.percentile(50),
            self.percentile(99),
            self.percentile(100),
        );
        println!(
            "{during}: {} requests of normal clients: p50 {half:?}, p99 {most:?}, max {all:?}",
            self.0.len()
        );
        assert!(most < limit, "{during}: p99 {most:?}, limit {limit:?}");
    }
}

struct Client {
    control: super::ControlClient,
    stream: Option<Pipe>,
    streams: Streams,
    another: Box<dyn Fn() -> super::ControlClient + Send>,
    other: libp2p::PeerId,
}

fn connect_again(daemon: &Daemon) -> Box<dyn Fn() -> super::ControlClient + Send> {
    let control = daemon.control().clone();
    Box::new(move || super::ControlClient::connect(&control).expect("connect"))
}

impl Client {
    fn run(mut self, first: Instant, stop: &AtomicBool, rounds: &AtomicUsize) -> Vec<Duration> {
        let mut waits = Vec::new();
        let mut next = first;
        while !stop.load(Ordering::Relaxed) {
            // The pace of the load; nothing waits for it.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now().max(next) + PACE;
            let started = Instant::now();
            let _ = self.control.identify();
            waits.push(started.elapsed());
            let started = Instant::now();
            self.echo();
            waits.push(started.elapsed());
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        waits
    }

    fn echo(&mut self) {
        let sent = [7; 64];
        let mut stream = self.stream.take().unwrap_or_else(|| {
            let opened = (self.another)().open_stream(self.other, &["/echo/1.0.0"]);
            opened.expect("STREAM_OPEN").1
        });
        let mut got = [0; 64];
        stream.write_all(&sent).expect("write");
        stream.read_exact(&mut got).expect("the echo");
        assert_eq!(got, sent);
        self.stream = (self.streams == Streams::Kept).then_some(stream);
    }
}
