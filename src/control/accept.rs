//! How clients and connections are accepted.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{task::yield_now, time::sleep};

use crate::{descriptors::is_shortage, limit_hits::Limit};

/// Pause after an accept for which the system has no room, and between two looks for a
/// descriptor.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The next client. Only where the system has no room for one more it pauses: an error that
/// concerns one client, who has gone for example, delays nobody else.
pub(super) async fn accepted<T>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> T {
    loop {
        match poll_fn(&mut accept).await {
            Ok(client) => return client,
            Err(error) if is_shortage(&error) => {
                tracing::debug!(%error, "no room to accept a client");
                Limit::Descriptors.hit();
                sleep(ACCEPT_PAUSE).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a client was not accepted");
                yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::io::Errno;

    use super::*;

    /// How long it takes to accept a client after `count` failures with `errno`.
    fn time_after(errno: Errno, count: usize) -> Duration {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().expect("a runtime");
        let mut failures = 0;
        let begun = Instant::now();
        runtime.block_on(accepted(|_| {
            if failures == count {
                return Poll::Ready(Ok(()));
            }
            failures += 1;
            Poll::Ready(Err(errno.into()))
        }));
        assert_eq!(failures, count);
        begun.elapsed()
    }

    #[test]
    fn only_a_system_without_room_makes_accepting_pause() {
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::INTR] {
            let took = time_after(errno, 200);
            assert!(took < 100 * ACCEPT_PAUSE, "{errno}: {took:?}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let took = time_after(errno, 2);
            assert!(took >= 2 * ACCEPT_PAUSE, "{errno}: {took:?}");
        }
    }
}
