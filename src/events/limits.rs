//! Limits may be reached thousands of times in a second, so they are looked at once a second.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{Event, Events, Kind};
use crate::limit_hits::{self, Count};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

impl Events {
    /// Tells which limits were reached, for as long as somebody wants to know. Runs until dropped.
    pub async fn watch_limits(&self) {
        loop {
            let joined = self.0.joined.notified();
            tokio::pin!(joined);
            joined.as_mut().enable();
            if !self.wants(Kind::Limit) {
                joined.await;
                continue;
            }
            let mut before = limit_hits::snapshot();
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            while self.wants(Kind::Limit) {
                ticks.tick().await;
                let now = limit_hits::snapshot();
                self.tell_difference(&before, &now);
                before = now;
            }
        }
    }

    fn tell_difference(&self, before: &[Count], now: &[Count]) {
        for (before, now) in before.iter().zip(now) {
            let count = now.count.saturating_sub(before.count);
            if count > 0 {
                self.tell(Kind::Limit, || Event::Limit {
                    limit: now.limit.label(),
                    count,
                });
            }
        }
    }
}
