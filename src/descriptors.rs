//! How many files the process may still open.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{Mode, OFlags},
    io::{Errno, fcntl_dupfd_cloexec},
};

/// Descriptors that accepting leaves alone, for the streams of whoever is there already, for
/// dials and files (SECURITY.md 3).
pub const RESERVE: u64 = 64;

/// Descriptors that connections to handlers leave alone.
pub const HANDLER_RESERVE: u64 = 32;

/// One entry for each descriptor of this process.
const TABLE: &str = "/proc/self/fd";

/// Between two counts of the entries, where the kernel does not tell their number.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// The file descriptors of this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Descriptors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    open: Open,
}

/// How it is known how many there are.
#[derive(Debug)]
enum Open {
    /// The kernel tells. The directory is kept open, because its path takes longer to find than all
    /// the rest of a question that each stream asks.
    Told(OwnedFd),
    /// The kernel does not tell.
    Counted(Counted),
}

/// What is known without being told.
#[derive(Debug)]
struct Counted {
    /// Copied to see which number is free.
    probe: Option<OwnedFd>,
    last: Arc<Mutex<Count>>,
}

#[derive(Debug)]
struct Count {
    open: u64,
    at: Instant,
    under_way: bool,
}

impl Descriptors {
    /// Those of a process that may have `limit` of them.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let table = rustix::fs::open(TABLE, flags, Mode::empty()).ok();
        let table = table.filter(|table| told(table).is_some());
        let open = table.map_or_else(|| Open::Counted(Counted::new()), Open::Told);
        Self(Arc::new(Inner { limit, open }))
    }

    /// Whether one more can be taken with `reserve` left, or with half of all, where that is
    /// less.
    ///
    /// Linux tells the number since 6.2. Before, it is at least the lowest free one, and what the
    /// last count of the entries has found, which is made by another thread.
    #[must_use]
    pub fn can_spare(&self, reserve: u64) -> bool {
        let Inner { limit, open } = &*self.0;
        let open = match open {
            Open::Told(table) => told(table),
            Open::Counted(counted) => counted.open(),
        };
        // Without one left nothing can be asked either.
        let open = open.unwrap_or(u64::MAX);
        open.saturating_add(reserve.min(limit / 2)) < *limit
    }
}

/// Whether the system has no descriptor or no memory for a further socket.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// How many there are, by the size of the directory `table`: 0 on kernels that do not tell it.
fn told(table: impl AsFd) -> Option<u64> {
    let size = rustix::fs::fstat(table).ok()?.st_size;
    u64::try_from(size).ok().filter(|size| *size > 0)
}

/// How many there are, by counting the entries. The count takes a descriptor itself.
fn count() -> Option<u64> {
    let entries = u64::try_from(fs::read_dir(TABLE).ok()?.count()).ok()?;
    Some(entries.saturating_sub(1))
}

impl Counted {
    fn new() -> Self {
        Self {
            probe: eventfd(0, EventfdFlags::CLOEXEC).ok(),
            last: Arc::new(Mutex::new(Count {
                open: count().unwrap_or(0),
                at: Instant::now(),
                under_way: false,
            })),
        }
    }

    fn open(&self) -> Option<u64> {
        self.count_again();
        let last = self.last.lock().open;
        let Some(probe) = &self.probe else {
            return Some(last);
        };
        // All below it are taken.
        let copy = fcntl_dupfd_cloexec(probe, 0).ok()?;
        let lowest = u64::try_from(copy.as_raw_fd()).ok()?;
        Some(last.max(lowest))
    }

    /// Counts on another thread, unless that was done lately.
    fn count_again(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        {
            let mut last = self.last.lock();
            if last.under_way || last.at.elapsed() < COUNT_INTERVAL {
                return;
            }
            last.under_way = true;
        }
        let last = self.last.clone();
        runtime.spawn_blocking(move || {
            let open = count();
            let mut last = last.lock();
            if let Some(open) = open {
                last.open = open;
            }
            (last.at, last.under_way) = (Instant::now(), false);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_begins_below_the_limit() {
        let plenty = Descriptors::new(u64::MAX);
        assert!(plenty.can_spare(RESERVE) && plenty.can_spare(0));
        // This process has some already.
        let few = Descriptors::new(3);
        assert!(!few.can_spare(RESERVE) && !few.can_spare(0));
    }

    /// Many with high numbers, and all low numbers free: on kernels that tell, and by counting.
    #[tokio::test]
    async fn a_hole_in_the_table_is_not_taken_for_its_end() {
        const HIGH: u64 = 300;
        let probe = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let high: Vec<_> = (0..HIGH)
            .map(|_| fcntl_dupfd_cloexec(&probe, 500).unwrap())
            .collect();
        let lowest = fcntl_dupfd_cloexec(&probe, 0).unwrap().as_raw_fd();
        assert!(u64::try_from(lowest).unwrap() < HIGH, "there is no hole");
        let by_counting = Descriptors(Arc::new(Inner {
            limit: HIGH,
            open: Open::Counted(Counted::new()),
        }));
        assert!(!by_counting.can_spare(0));
        let told = Descriptors::new(HIGH);
        if matches!(told.0.open, Open::Told(_)) {
            assert!(!told.can_spare(0));
        }
        drop(high);
        if matches!(told.0.open, Open::Told(_)) {
            assert!(told.can_spare(0));
        }
        let mut tries = 0;
        while !by_counting.can_spare(0) {
            tries += 1;
            assert!(tries < 2000, "the count is never made again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
