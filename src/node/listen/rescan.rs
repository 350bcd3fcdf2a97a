//! Looks for new addresses of the host, where its interfaces cannot be watched.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Interval, MissedTickBehavior, interval},
};

use super::super::interfaces;

/// Between two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// A look every [`INTERVAL`], one at a time, on a thread that may block.
#[derive(Debug)]
pub(in super::super) struct Rescan {
    timer: Interval,
    look: Option<JoinHandle<io::Result<Vec<IpAddr>>>>,
}

impl Rescan {
    /// Looks at once, then after each interval.
    pub(in super::super) fn new() -> Self {
        let mut timer = interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { timer, look: None }
    }

    /// The addresses that the host has by the next look.
    ///
    /// # Cancel safety
    /// A look that has begun is waited for by the next call.
    pub(in super::super) async fn next(&mut self) -> Vec<IpAddr> {
        if self.look.is_none() {
            self.timer.tick().await;
        }
        let look = self
            .look
            .get_or_insert_with(|| spawn_blocking(interfaces::addresses));
        let found = look.await;
        self.look = None;
        or_loopback(found.unwrap_or_else(|error| Err(error.into())))
    }
}

/// The addresses of the host, or loopback alone where they are unknown.
pub(super) fn or_loopback(found: io::Result<Vec<IpAddr>>) -> Vec<IpAddr> {
    found.unwrap_or_else(|error| {
        tracing::debug!(%error, "the addresses of this host are unknown");
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_that_was_not_waited_for_is_not_lost() {
        let (end, hung) = std::sync::mpsc::channel::<()>();
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let mut rescan = Rescan::new();
        rescan.look = Some(spawn_blocking(move || {
            // Until the other end is dropped.
            let _ = hung.recv();
            Ok(vec![address])
        }));
        // Whoever waits has something else to do in between.
        assert!(futures::poll!(std::pin::pin!(rescan.next())).is_pending());
        drop(end);
        assert_eq!(rescan.next().await, [address]);
        assert!(rescan.look.is_none());
        assert!(rescan.next().await.iter().any(IpAddr::is_loopback));
    }

    #[test]
    fn an_unknown_host_has_loopback() {
        let found = or_loopback(Err(io::ErrorKind::NotFound.into()));
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(IpAddr::is_loopback));
    }
}
