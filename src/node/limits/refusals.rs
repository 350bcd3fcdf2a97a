//! What the operator is told of refused addresses.

use std::{
    collections::HashSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::source::Level;

use crate::fixed_limits::fixed_limit;

/// Lines at once.
const LINES: u32 = 4;

/// Time until one more.
const INTERVAL: Duration = Duration::from_secs(60);

/// Prefixes that were told of (SECURITY.md 3); beyond that all are forgotten, and told again.
const MAX_TOLD: usize = 1024;
fixed_limit!("refused prefixes that the log names", MAX_TOLD);

/// Who was told of.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: HashSet<IpNet>,
    /// When all lines are there again.
    whole_at: Option<Instant>,
}

impl Refusals {
    /// Whether a refusal by `prefix` is to be told: the first of each, and few at once.
    fn is_due(&mut self, prefix: IpNet, now: Instant) -> bool {
        if self.told.contains(&prefix) {
            return false;
        }
        let whole_at = self.whole_at.unwrap_or(now).max(now);
        if whole_at.duration_since(now) > INTERVAL * (LINES - 1) {
            return false;
        }
        self.whole_at = Some(whole_at + INTERVAL);
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert(prefix)
    }

    /// A connection from `ip` was refused since its prefix has as many as it may.
    pub(super) fn count(&mut self, ip: IpAddr, level: Level, now: Instant) {
        if self.is_due(level.prefix, now) {
            tracing::error!(
                address = %ip,
                prefix = %level.prefix,
                limit = level.limits.connections,
                "inbound connection refused: its address has as many as -connPerAddress allows; \
                 -connExempt={} lifts that",
                level.prefix
            );
        }
    }

    /// A connection from `ip` was refused since its prefix connects too often.
    pub(super) fn rate(&mut self, ip: IpAddr, level: Level, now: Instant) {
        if self.is_due(level.prefix, now) {
            tracing::error!(
                address = %ip,
                prefix = %level.prefix,
                limit = level.limits.burst,
                "inbound connection refused: its address connects more often than -connBurst and \
                 -connRefill allow; -connExempt={} lifts that",
                level.prefix
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(number: u32) -> IpNet {
        IpAddr::from(number.to_be_bytes()).into()
    }

    #[test]
    fn each_prefix_is_told_once_and_few_at_once() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        assert!(refusals.is_due(net(1), start));
        assert!(!refusals.is_due(net(1), start));
        let told = (0..1000).filter(|number| refusals.is_due(net(*number), start));
        assert_eq!(told.count(), 3);
        let later = start + INTERVAL;
        let told = (0..1000).filter(|number| refusals.is_due(net(*number), later));
        assert_eq!(told.count(), 1);
        assert!(!refusals.is_due(net(1), start + INTERVAL * 100));
    }

    #[test]
    fn what_was_told_is_bounded() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        for number in 0..3000 {
            let now = start + INTERVAL * number;
            assert!(refusals.is_due(net(number), now));
            assert!(refusals.told.len() <= MAX_TOLD);
        }
    }
}
