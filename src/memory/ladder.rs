//! The rungs: at which share of the budget what is done, and until when.

use std::time::Duration;

use tokio::time::Instant;

use crate::fixed_limits::fixed_limit;

/// Shares of the budget at which the rungs begin, in percent (SECURITY.md 3).
pub(crate) const REFUSE_AT: u64 = 60;
pub(crate) const TRIM_AT: u64 = 75;
pub(crate) const CUT_AT: u64 = 85;

/// Share from which changes are followed closely.
const CLOSE_AT: u64 = 50;

/// How far below its beginning a rung ends, in percent of the budget.
const SLACK: u64 = 5;

/// Growth that counts, as a part of the budget.
const GROWTH: u64 = 128;

/// Received bytes that are no reason to look again, as a part of the budget.
const ALARM: u64 = 64;

/// Time without growth after which memory that is high counts as settled.
const SETTLED: Duration = Duration::from_secs(10);
fixed_limit!("time without growth after which high memory is accepted", time SETTLED);

/// What is done, in addition to what the rungs below do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// New inbound connections are refused.
    Refuse,
    /// Idle peers are closed.
    Trim,
    /// The largest buffers are cut, new inbound streams are refused.
    Cut,
}

/// One look at the memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) rung: Option<Rung>,
    /// Memory has grown lately.
    pub(super) pressing: bool,
    /// The rung has just been reached, or memory has grown again on it.
    pub(super) acts: bool,
    /// Bytes above the end of the highest rung.
    pub(super) surplus: u64,
    /// There is much in use, and that has changed lately.
    pub(super) close: bool,
}

#[derive(Debug)]
pub(super) struct Ladder {
    budget: u64,
    rung: Option<Rung>,
    /// Above this, memory has grown.
    mark: u64,
    grew: Option<Instant>,
    /// What was in use at the last change, and when that was.
    changed: Option<(u64, Instant)>,
}

impl Ladder {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            rung: None,
            mark: 0,
            grew: None,
            changed: None,
        }
    }

    /// Whether so much is in use that the next look should come soon.
    fn is_close(&mut self, used: u64, now: Instant) -> bool {
        if used < self.share(CLOSE_AT) {
            self.changed = None;
            return false;
        }
        let (before, since) = *self.changed.get_or_insert((used, now));
        if used.abs_diff(before) > self.budget / GROWTH {
            self.changed = Some((used, now));
            return true;
        }
        now.duration_since(since) < SETTLED
    }

    /// Whether so much is in use that it is worth some time to have it counted without the pages
    /// that nothing uses.
    pub(super) fn is_much(&self, used: u64) -> bool {
        used >= self.share(TRIM_AT)
    }

    /// Whether so much is in use that reading more makes it worse.
    pub(super) fn is_short(&self, used: u64) -> bool {
        used >= self.share(CUT_AT)
    }

    /// After how many received bytes the next look is due. What holds them may take twice as much:
    /// a vector that grows.
    pub(super) fn alarm(&self, used: u64) -> u64 {
        let room = self.share(CUT_AT).saturating_sub(used);
        (room / 4).max(self.budget / ALARM)
    }

    fn share(&self, percent: u64) -> u64 {
        self.budget / 100 * percent
    }

    /// The highest rung whose beginning has been reached and whose end has not.
    fn rung(&self, used: u64) -> Option<Rung> {
        [
            (Rung::Cut, CUT_AT),
            (Rung::Trim, TRIM_AT),
            (Rung::Refuse, REFUSE_AT),
        ]
        .into_iter()
        .find(|(rung, percent)| {
            let slack = if self.rung >= Some(*rung) { SLACK } else { 0 };
            used >= self.share(percent - slack)
        })
        .map(|(rung, _)| rung)
    }

    pub(super) fn step(&mut self, used: u64, now: Instant) -> Step {
        let rung = self.rung(used);
        let grown = used > self.mark.saturating_add(self.budget / GROWTH);
        let acts = rung.is_some() && (rung > self.rung || grown);
        self.rung = rung;
        let settled = |grew: Instant| now.duration_since(grew) >= SETTLED;
        if rung.is_none() {
            self.grew = None;
        } else if acts {
            self.mark = used;
            self.grew = Some(now);
        } else if self.grew.is_some_and(settled) {
            self.mark = used;
            self.grew = None;
        }
        if rung.is_none() {
            self.mark = used;
        }
        Step {
            rung,
            pressing: self.grew.is_some(),
            acts,
            surplus: used.saturating_sub(self.share(CUT_AT - SLACK)),
            close: self.is_close(used, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 1000 << 20;

    struct Run {
        ladder: Ladder,
        start: Instant,
    }

    impl Run {
        fn new() -> Self {
            Self {
                ladder: Ladder::new(BUDGET),
                start: Instant::now(),
            }
        }

        /// `percent` tenths of the budget in use, at this second.
        fn step(&mut self, permille: u64, second: u64) -> Step {
            let now = self.start + Duration::from_secs(second);
            self.ladder.step(BUDGET / 1000 * permille, now)
        }
    }

    #[test]
    fn rungs_begin_at_their_shares_and_end_below() {
        let mut run = Run::new();
        let rungs = [
            (599, None),
            (600, Some(Rung::Refuse)),
            (551, Some(Rung::Refuse)),
            (549, None),
            (599, None),
            (750, Some(Rung::Trim)),
            (701, Some(Rung::Trim)),
            (699, Some(Rung::Refuse)),
            (900, Some(Rung::Cut)),
            (801, Some(Rung::Cut)),
            (799, Some(Rung::Trim)),
            (0, None),
            (2000, Some(Rung::Cut)),
        ];
        for (second, (permille, rung)) in (0..).zip(rungs) {
            assert_eq!(run.step(permille, second).rung, rung, "{permille}");
        }
    }

    #[test]
    fn each_rung_acts_when_reached_and_when_memory_grows_on_it() {
        let mut run = Run::new();
        assert!(!run.step(500, 0).acts);
        assert!(run.step(610, 1).acts);
        assert!(!run.step(612, 2).acts, "that is noise");
        assert!(run.step(620, 3).acts);
        assert!(!run.step(600, 4).acts);
        assert!(!run.step(620, 5).acts, "it has been there");
        assert!(run.step(900, 6).acts);
        assert_eq!(run.step(900, 6).surplus, BUDGET / 10);
        assert!(!run.step(810, 7).acts);
        assert!(run.step(920, 8).acts);
    }

    #[test]
    fn memory_that_stays_high_settles() {
        let mut run = Run::new();
        assert!(run.step(700, 0).pressing);
        assert!(run.step(700, 9).pressing);
        let settled = run.step(680, 10);
        assert_eq!(settled.rung, Some(Rung::Refuse));
        assert!(!settled.pressing && !settled.acts);
        assert!(!run.step(684, 60).pressing);
        // Growth counts from where it settled.
        let grown = run.step(695, 61);
        assert!(grown.pressing && grown.acts);
        assert!(!run.step(500, 62).pressing);
    }

    #[test]
    fn much_memory_that_changes_is_followed_closely() {
        let mut run = Run::new();
        assert!(!run.step(499, 0).close);
        assert!(run.step(501, 1).close);
        assert!(run.step(501, 10).close);
        assert!(!run.step(502, 11).close);
        assert!(run.step(540, 12).close);
        assert!(run.step(520, 21).close && run.step(520, 30).close);
        assert!(!run.step(520, 31).close);
        assert!(!run.step(100, 32).close);
    }

    #[test]
    fn the_less_room_there_is_the_sooner_received_bytes_matter() {
        let ladder = Ladder::new(BUDGET);
        let alarm = |permille| ladder.alarm(BUDGET / 1000 * permille);
        assert_eq!(alarm(50), BUDGET / 5);
        assert_eq!(alarm(650), BUDGET / 20);
        assert_eq!(alarm(840), BUDGET / 64);
        assert_eq!(alarm(2000), BUDGET / 64);
        assert!(ladder.is_much(BUDGET / 4 * 3) && !ladder.is_much(BUDGET / 10 * 7));
    }

    #[test]
    fn budgets_of_any_size_are_fine() {
        for budget in [0, 1, 99, u64::MAX] {
            let mut ladder = Ladder::new(budget);
            for used in [0, 1, budget / 2, budget, u64::MAX] {
                ladder.step(used, Instant::now());
            }
        }
    }
}
