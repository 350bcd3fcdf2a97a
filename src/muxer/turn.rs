//! How much a connection's task does before others get their turns: the less the more connections
//! have more to do than that, so that many busy peers together hold up nobody for long.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Turns that ended before everything was done, and the next of which has not.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// The turns of one connection, in any unit of work.
#[derive(Debug, Default)]
pub(super) struct Turns {
    done: usize,
    busy: bool,
}

impl Turns {
    /// So much was done.
    pub(super) fn did(&mut self, work: usize) {
        self.done = self.done.saturating_add(work);
    }

    /// Whether the turn is over, which is the case after the work of `most` if no other connection is
    /// busy, and never before that of `least`. The caller has itself polled again.
    pub(super) fn is_over(&mut self, most: usize, least: usize) -> bool {
        let others = BUSY.load(Relaxed).saturating_sub(usize::from(self.busy));
        let over = self.done >= (most / (others + 1)).max(least);
        if over {
            self.done = 0;
            self.set_busy(true);
        }
        over
    }

    /// Nothing is left to do for now.
    pub(super) fn rest(&mut self) {
        self.done = 0;
        self.set_busy(false);
    }

    fn set_busy(&mut self, busy: bool) {
        match (self.busy, busy) {
            (false, true) => BUSY.fetch_add(1, Relaxed),
            (true, false) => BUSY.fetch_sub(1, Relaxed),
            _ => return,
        };
        self.busy = busy;
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.set_busy(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busier_the_shorter() {
        // Other tests may have busy connections as well, for moments.
        let turn = |turns: &mut Turns| {
            (1..).find(|_| {
                turns.did(1);
                turns.is_over(1000, 2)
            })
        };
        let mut one = Turns::default();
        assert!(turn(&mut one) > Some(100));
        let mut others: Vec<_> = (0..99).map(|_| Turns::default()).collect();
        for other in &mut others {
            turn(other);
        }
        assert!(turn(&mut one) <= Some(10));
        others.resize_with(9999, Turns::default);
        for other in &mut others {
            turn(other);
        }
        assert_eq!(turn(&mut one), Some(2));
        others.iter_mut().for_each(Turns::rest);
        assert!(turn(&mut one) > Some(100));
        one.did(500);
        one.rest();
        assert!(turn(&mut one) > Some(100), "from the start");
    }
}
