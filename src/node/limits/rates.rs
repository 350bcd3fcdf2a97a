//! How often addresses connect.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::source::Level;

use crate::fixed_limits::fixed_limit;

/// Prefixes whose rate is followed (SECURITY.md 3): those that have connected lately.
const MAX_FOLLOWED: usize = 8192;
fixed_limit!("prefixes whose new connections are counted", MAX_FOLLOWED);

/// How often prefixes have connected lately.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When the prefix will have its whole burst again.
    whole_at: HashMap<IpNet, Instant>,
}

impl Rates {
    /// Takes note of a connection that counts for all of `levels`. The first of them for which it
    /// comes too soon, if there is one: then it counts for none.
    pub(super) fn admit(
        &mut self,
        levels: impl Iterator<Item = Level>,
        now: Instant,
    ) -> Result<(), Level> {
        let mut steps = [None; 2];
        for (level, step) in levels.zip(&mut steps) {
            *step = match self.next(level, now) {
                Next::Unlimited => None,
                Next::WholeAt(next) => Some((level.prefix, next)),
                Next::TooSoon(_) => return Err(level),
            };
        }
        for (prefix, next) in steps.into_iter().flatten() {
            self.note(prefix, next, now);
        }
        Ok(())
    }

    /// As [`Rates::admit`], but nothing is noted: the connection may not be from there.
    /// [`Rates::spend`] follows once it is known to be.
    pub(super) fn check(
        &self,
        mut levels: impl Iterator<Item = Level>,
        now: Instant,
    ) -> Result<(), Level> {
        let early = |level: &Level| matches!(self.next(*level, now), Next::TooSoon(_));
        levels.find(early).map_or(Ok(()), Err)
    }

    /// Takes note of a connection that was admitted after [`Rates::check`].
    pub(super) fn spend(&mut self, levels: impl Iterator<Item = Level>, now: Instant) {
        for level in levels {
            // Others may have come meanwhile: then the next one has to wait for longer.
            if let Next::WholeAt(next) | Next::TooSoon(next) = self.next(level, now) {
                self.note(level.prefix, next, now);
            }
        }
    }

    fn note(&mut self, prefix: IpNet, whole_at: Instant, now: Instant) {
        if self.whole_at.len() >= MAX_FOLLOWED && !self.whole_at.contains_key(&prefix) {
            self.make_room(now);
        }
        self.whole_at.insert(prefix, whole_at);
    }

    fn next(&self, level: Level, now: Instant) -> Next {
        let Level { prefix, limits } = level;
        if limits.burst == 0 || limits.refill.is_zero() {
            return Next::Unlimited;
        }
        let burst = u32::try_from(limits.burst).unwrap_or(u32::MAX);
        let whole_at = self.whole_at.get(&prefix).copied();
        let whole_at = whole_at.unwrap_or(now).max(now);
        let spent: Duration = whole_at.duration_since(now);
        let (Some(debt), Some(spent), Some(next)) = (
            limits.refill.checked_mul(burst),
            spent.checked_add(limits.refill),
            whole_at.checked_add(limits.refill),
        ) else {
            // Such a time is never over.
            return Next::Unlimited;
        };
        if spent > debt {
            Next::TooSoon(next)
        } else {
            Next::WholeAt(next)
        }
    }

    /// Forgets whoever has its whole burst again. If that is not enough, the half that comes next
    /// to it, so that the search is paid for by as many newcomers.
    fn make_room(&mut self, now: Instant) {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        if self.whole_at.len() >= MAX_FOLLOWED {
            let mut times: Vec<_> = self.whole_at.values().copied().collect();
            let (_, median, _) = times.select_nth_unstable(MAX_FOLLOWED / 2);
            let median = *median;
            // Many may have the same time.
            let mut excess = self.whole_at.len() - MAX_FOLLOWED / 2;
            self.whole_at.retain(|_, whole_at| {
                let goes = *whole_at <= median && excess > 0;
                excess -= usize::from(goes);
                !goes
            });
        }
    }
}

enum Next {
    Unlimited,
    WholeAt(Instant),
    TooSoon(Instant),
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::node::limits::values::AddressLimits;

    fn level(ip: IpAddr, limits: AddressLimits) -> Level {
        Level {
            prefix: ip.into(),
            limits,
        }
    }

    fn at(ip: &str) -> Level {
        level(ip.parse().unwrap(), AddressLimits::default())
    }

    fn admits(rates: &mut Rates, levels: &[Level], now: Instant) -> bool {
        rates.admit(levels.iter().copied(), now).is_ok()
    }

    #[test]
    fn an_address_has_a_burst_and_then_one_in_five_seconds() {
        let mut rates = Rates::default();
        let (one, other) = (at("1.1.1.1"), at("1.1.1.2"));
        let start = Instant::now();
        let mut admitted = |level, second| {
            let now = start + Duration::from_secs(second);
            let tries = (0..100).filter(|_| admits(&mut rates, &[level], now));
            tries.count()
        };
        assert_eq!(admitted(one, 0), 16);
        assert_eq!(admitted(one, 4), 0);
        assert_eq!(admitted(one, 5), 1);
        assert_eq!(admitted(other, 5), 16);
        assert_eq!(admitted(one, 26), 4);
        assert_eq!(admitted(one, 10_000), 16);
    }

    #[test]
    fn customers_of_one_site_have_its_burst_together() {
        let mut rates = Rates::default();
        let now = Instant::now();
        let site = Level {
            limits: AddressLimits::default().of_site(),
            ..at("2001:db8::")
        };
        let customer = |n: u16| {
            level(
                [0x2001, 0xdb8, 0, n << 8, 0, 0, 0, 0].into(),
                at("::1").limits,
            )
        };
        let tries = (0..256).flat_map(|n| std::iter::repeat_n(customer(n), 20));
        let admitted = tries.filter(|one| admits(&mut rates, &[*one, site], now));
        assert_eq!(admitted.count(), 80);
        // A refusal by the site costs the customer nothing.
        assert!(admits(&mut rates, &[customer(200)], now));
        assert_eq!(rates.admit([customer(9), site].into_iter(), now), Err(site));
    }

    #[test]
    fn addresses_without_end_are_bounded() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let busy = at("9.9.9.9");
        let tries = (0..100).filter(|_| admits(&mut rates, &[busy], start));
        assert_eq!(tries.count(), 16);
        for number in 0..50_000_u32 {
            let one = level(Ipv4Addr::from(number).into(), AddressLimits::default());
            assert!(admits(&mut rates, &[one], start));
            assert!(rates.whole_at.len() <= MAX_FOLLOWED);
        }
        // Whoever has spent most is forgotten last.
        assert!(!admits(&mut rates, &[busy], start));
        // Nothing is kept of those that have not come for long.
        rates.make_room(start + Duration::from_secs(1000));
        assert!(rates.whole_at.is_empty());
    }

    #[test]
    fn without_limits_everybody_is_admitted() {
        let off = AddressLimits {
            burst: 0,
            ..AddressLimits::default()
        };
        let long = AddressLimits {
            refill: Duration::MAX,
            ..AddressLimits::default()
        };
        for limits in [off, long] {
            let mut rates = Rates::default();
            let now = Instant::now();
            let one = level("1.1.1.1".parse().unwrap(), limits);
            assert!((0..1000).all(|_| admits(&mut rates, &[one], now)));
        }
    }
}
