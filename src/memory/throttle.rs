//! Peers are read more slowly while memory is short.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::timeout,
};

use crate::fixed_limits::fixed_limit;

/// Bytes that are read of one connection at once while memory is short, and no more in
/// [`READ_PAUSE`], so that those that are cut are gone before others take their place. All reads go on.
const HELD_CHUNK: usize = 16 * 1024;

/// See [`HELD_CHUNK`].
const READ_PAUSE: Duration = Duration::from_millis(50);
fixed_limit!("pause of a connection's reads while memory is short", time READ_PAUSE);

/// Bytes that are not worth a wait: small messages go on as if memory were not short.
const FREE: usize = 1024;

/// Whether peers are to be read more slowly.
static THROTTLED: AtomicBool = AtomicBool::new(false);

/// Wakes those that wait when they need not wait any longer.
static RELEASED: Notify = Notify::const_new();

/// Whether there is so little memory that peers are to be read more slowly.
pub(crate) fn is_throttled() -> bool {
    THROTTLED.load(Relaxed)
}

/// See [`is_throttled`].
pub(super) fn set_throttled(hold: bool) {
    if THROTTLED.swap(hold, Relaxed) && !hold {
        RELEASED.notify_waiters();
    }
}

/// What slows the reads of one connection. It costs nothing while memory is not short.
#[derive(Default)]
pub(crate) struct Throttle {
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Bytes read that were not waited for yet.
    read: usize,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Throttle");
        let shown = shown.field("waits", &self.wait.is_some());
        shown.field("read", &self.read).finish()
    }
}

impl Throttle {
    /// Ready with the number of bytes that may be read next, of `wanted`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(match is_throttled() {
            true => wanted.min(HELD_CHUNK),
            false => wanted,
        })
    }

    /// So many bytes were read.
    pub(crate) fn read(&mut self, bytes: usize) {
        if !is_throttled() {
            self.read = 0;
            return;
        }
        self.read += bytes;
        if self.read < FREE {
            return;
        }
        let released = RELEASED.notified();
        let read = std::mem::take(&mut self.read);
        // Memory may have become free before this one was waited for.
        if is_throttled() {
            let part = u32::try_from(read.min(HELD_CHUNK)).unwrap_or(u32::MAX);
            let chunk = u32::try_from(HELD_CHUNK).unwrap_or(u32::MAX);
            self.wait = Some(Box::pin(paused(READ_PAUSE * part / chunk, released)));
        }
    }
}

async fn paused(time: Duration, released: Notified<'static>) {
    let _ = timeout(time, released).await;
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;

    use super::*;

    fn poll(one: &mut Throttle) -> Poll<usize> {
        one.poll(&mut Context::from_waker(std::task::Waker::noop()), 1 << 20)
    }

    #[tokio::test]
    async fn large_reads_are_held_up_until_memory_is_free_or_for_a_while() {
        let mut one = Throttle::default();
        one.read(1 << 20);
        assert_eq!(poll(&mut one), Poll::Ready(1 << 20));
        set_throttled(true);
        assert_eq!(poll(&mut one), Poll::Ready(HELD_CHUNK));
        one.read(FREE / 2);
        assert!(poll(&mut one).is_ready(), "little is free");
        one.read(FREE / 2);
        assert!(poll(&mut one).is_pending(), "much in sum is not");
        set_throttled(false);
        assert_eq!(poll(&mut one), Poll::Ready(1 << 20), "released");
        set_throttled(true);
        one.read(HELD_CHUNK);
        assert!(poll(&mut one).is_pending());
        // No release comes: its own clock ends the wait.
        assert_eq!(poll_fn(|cx| one.poll(cx, 1)).await, 1);
        set_throttled(false);
    }
}
