//! How much memory the process may use, and what is given up when it comes near.
//!
//! Counted is what cannot be taken back from the process (anonymous pages), and what the kernel
//! holds for clients that do not read, which a control group counts as well. When that is much, the
//! allocator first gives back the pages that nothing uses any more. Parts of pages stay, so each
//! rung acts when it is reached and then for as long as memory grows, not for as long as it is high.

mod account;
mod budget;
mod ladder;
mod received;
mod throttle;
mod unseen;
mod unused;

use std::{
    convert::Infallible,
    fmt,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

pub(crate) use account::prefix;
pub use account::{Account, Charge, Ledger, OverBudget, Shares};
pub use budget::{Budget, Source};
pub(crate) use ladder::{CUT_AT, REFUSE_AT, TRIM_AT};
use ladder::{Ladder, Rung, Step};
pub(crate) use received::received;
use throttle::set_throttled;
pub(crate) use throttle::{Throttle, is_throttled};
pub(crate) use unseen::Unseen;

use crate::fixed_limits::fixed_limit;

/// Time between two looks at the memory in use, while something happens.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The same, while nothing was received or reserved since the last one.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The same, while more than half of the budget is in use and that changes.
const CLOSE_INTERVAL: Duration = Duration::from_millis(25);

/// The same, however much is received meanwhile.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(4);

/// The part of the budget that is left to what the kernel holds for the process: its sockets, its
/// page tables. A control group counts them; a process cannot tell which of a group's are its own.
const KERNEL: u64 = 16;

/// Whoever can give up memory.
pub trait Shed: fmt::Debug + Send + Sync {
    /// Gives up what is worth least, in any amount.
    fn trim(&self);

    /// Gives up about `bytes` of what waits to be read or sent, the largest parts first. How much
    /// it was.
    fn shed(&self, bytes: u64) -> u64;
}

/// Bytes of what is not sent yet that the kernel takes for one tcp connection of a process with little
/// memory (SECURITY.md 3).
const MIN_UNSENT: u32 = 128 * 1024;
fixed_limit!("unsent bytes of a tcp connection in the kernel, at least", bytes MIN_UNSENT);

/// The same, of one with much: a small buffer costs system calls (SECURITY.md 3).
const MAX_UNSENT: u32 = 4 << 20;
fixed_limit!("unsent bytes of a tcp connection in the kernel, at most", bytes MAX_UNSENT);

/// The part of the budget that is between these two.
const UNSENT_PART: u64 = 4096;

/// What holds for this process.
static UNSENT: AtomicU32 = AtomicU32::new(MAX_UNSENT);

/// Bytes of what is not sent yet that the kernel is to take for one tcp connection.
pub(crate) fn unsent() -> u32 {
    UNSENT.load(Relaxed)
}

/// Bytes in the kernel's buffers of sockets whose other ends do not read.
static STUCK: AtomicU64 = AtomicU64::new(0);

/// A socket whose buffer is full, for as long as it is.
#[derive(Debug)]
pub struct Stuck(u64);

impl Stuck {
    /// So many bytes fit into the buffer.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        STUCK.fetch_add(bytes, Relaxed);
        Self(bytes)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        STUCK.fetch_sub(self.0, Relaxed);
    }
}

/// What the ladder tells those who take on more.
#[derive(Debug, Default)]
pub struct Pressure {
    connections: AtomicBool,
    streams: AtomicBool,
    used: AtomicU64,
    budget: AtomicU64,
}

impl Pressure {
    /// Whether inbound connections are to be refused.
    #[must_use]
    pub fn refuses_connections(&self) -> bool {
        self.connections.load(Relaxed)
    }

    /// Whether inbound streams are to be refused.
    #[must_use]
    pub fn refuses_streams(&self) -> bool {
        self.streams.load(Relaxed)
    }

    /// Memory in use and what it has led to.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            used: self.used.load(Relaxed),
            limit: self.budget.load(Relaxed),
            refuses_connections: self.refuses_connections(),
            refuses_streams: self.refuses_streams(),
        }
    }
}

/// The memory in use at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes in use, 0 if nobody looks.
    pub used: u64,
    /// Bytes that may be used, 0 if nobody looks.
    pub limit: u64,
    /// Whether inbound connections are refused for want of memory.
    pub refuses_connections: bool,
    /// Whether inbound streams are.
    pub refuses_streams: bool,
}

/// Looks at the memory in use until dropped. Each of `sheds` is asked in turn until enough has
/// been given up.
///
/// It does so on a thread of its own: when peers send most, tasks of the runtime wait longest.
pub async fn watch(budget: u64, pressure: Arc<Pressure>, sheds: Vec<Box<dyn Shed>>) {
    pressure.budget.store(budget, Relaxed);
    let unsent = u32::try_from(budget / UNSENT_PART).unwrap_or(u32::MAX);
    UNSENT.store(unsent.clamp(MIN_UNSENT, MAX_UNSENT), Relaxed);
    let sheds: Arc<[Box<dyn Shed>]> = sheds.into();
    loop {
        let Some(resident) = Resident::open() else {
            tracing::warn!("the memory in use is unknown: no limit holds for it");
            return;
        };
        let (running, ended) = oneshot::channel();
        let watcher = Watcher {
            resident,
            ladder: Ladder::new(budget - budget / KERNEL),
            pressure: pressure.clone(),
            sheds: sheds.clone(),
            running,
        };
        let thread = thread::Builder::new().name("memory".to_owned());
        // Dropped in this order: the thread finds that nobody waits for it any more.
        let mut watcher = match thread.spawn(move || watcher.run()) {
            Ok(thread) => (ended, Unpark(thread.thread().clone())),
            Err(error) => {
                tracing::warn!(%error, "no thread: no limit holds for memory");
                return;
            }
        };
        let _ = (&mut watcher.0).await;
        tracing::error!("whoever looks at the memory in use has ended and is started again");
        sleep(SAMPLE_INTERVAL).await;
    }
}

/// Has a thread look up when it is dropped.
#[derive(Debug)]
struct Unpark(Thread);

impl Drop for Unpark {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// What the thread has.
#[derive(Debug)]
struct Watcher {
    resident: Resident,
    ladder: Ladder,
    pressure: Arc<Pressure>,
    sheds: Arc<[Box<dyn Shed>]>,
    /// Closed once nobody waits for the thread any more.
    running: oneshot::Sender<Infallible>,
}

impl Watcher {
    fn run(mut self) {
        received::wakes_this_thread();
        while !self.running.is_closed() {
            let interval = match self.look() {
                Some((used, _)) if self.act(used) || unseen::any() => CLOSE_INTERVAL,
                Some((_, true)) => IDLE_INTERVAL,
                Some((_, false)) => SAMPLE_INTERVAL,
                None => {
                    // Nobody is held up by somebody who sees nothing.
                    received::looked(u64::MAX, u64::MAX);
                    set_throttled(false);
                    SAMPLE_INTERVAL
                }
            };
            thread::sleep(SHORTEST_INTERVAL);
            thread::park_timeout(interval - SHORTEST_INTERVAL);
        }
    }

    /// The memory in use, and whether nothing came since the last look. Nobody is to be cut for pages
    /// that the allocator keeps.
    fn look(&self) -> Option<(u64, bool)> {
        let bytes = || Some(self.resident.bytes()?.saturating_add(STUCK.load(Relaxed)));
        let mut used = bytes()?;
        if self.ladder.is_much(used) {
            unused::give_back();
            used = bytes()?;
        }
        let alarm = self.ladder.alarm(used);
        let came = received::looked(alarm, alarm.saturating_mul(2));
        Some((used, came == 0))
    }

    /// Does what the ladder says; whether it may soon say more.
    fn act(&mut self, used: u64) -> bool {
        let step = self.ladder.step(used, Instant::now());
        let refuses = |rung| step.pressing && step.rung >= Some(rung);
        self.pressure.used.store(used, Relaxed);
        let refused = refuses(Rung::Refuse);
        self.pressure.connections.store(refused, Relaxed);
        self.pressure.streams.store(refuses(Rung::Cut), Relaxed);
        // High memory that has settled is taken as it is: peers are not to be slow for ever.
        set_throttled(step.pressing && self.ladder.is_short(used));
        if step.acts {
            tracing::debug!(used, rung = ?step.rung, "memory is short");
            self.give_up(step);
        }
        step.close
    }

    fn give_up(&self, step: Step) {
        if step.rung >= Some(Rung::Trim) {
            self.sheds.iter().for_each(|shed| shed.trim());
        }
        if step.rung < Some(Rung::Cut) {
            return;
        }
        let mut wanted = step.surplus;
        for shed in &*self.sheds {
            if wanted == 0 {
                break;
            }
            wanted = wanted.saturating_sub(shed.shed(wanted));
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // By a panic as well.
        received::wakes_nobody();
    }
}

/// The memory that the process has.
#[derive(Debug)]
struct Resident {
    pages: File,
    /// Bytes of a page.
    size: u64,
}

impl Resident {
    fn open() -> Option<Self> {
        let resident = Self {
            pages: File::open("/proc/self/statm").ok()?,
            size: u64::try_from(rustix::param::page_size()).ok()?,
        };
        resident.bytes().map(|_| resident)
    }

    fn bytes(&self) -> Option<u64> {
        let mut buffer = [0; 256];
        // From the start, the kernel writes it anew.
        let read = self.pages.read_at(&mut buffer, 0).ok()?;
        anonymous(std::str::from_utf8(&buffer[..read]).ok()?)?.checked_mul(self.size)
    }
}

/// Of what `/proc/self/statm` says, the pages that are resident and not shared with a file. The
/// kernel writes it in a tenth of the time of `/proc/self/status`.
fn anonymous(statm: &str) -> Option<u64> {
    let mut counts = statm.split_ascii_whitespace().map(str::parse::<u64>);
    let (_size, resident) = (counts.next()?.ok()?, counts.next()?.ok()?);
    let shared = counts.next()?.ok()?;
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_is_read() {
        assert_eq!(anonymous("6410 1211 1000 4 0 300 0\n"), Some(211));
        assert_eq!(anonymous("6410 1211\n"), None);
        assert_eq!(anonymous("6410 many 1000 4 0 300 0\n"), None);
        let resident = Resident::open().expect("a file");
        let before = resident.bytes().expect("a number");
        let block = vec![1_u8; 64 << 20];
        let during = resident.bytes().expect("a number");
        assert!(during >= before + (32 << 20), "{before} {during}");
        drop(block);
    }
}
