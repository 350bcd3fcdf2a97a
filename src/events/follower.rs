//! One who follows events.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll};

use super::{
    Entry, Event, Shared,
    kind::Kinds,
    log::{Found, Place},
};
use crate::memory::Charge;

/// What one who follows is told next.
#[derive(Debug)]
pub enum Followed {
    /// What was there before.
    Present(Entry),
    /// Something has happened.
    Event(Arc<Entry>),
    /// So many events came here that are no longer kept.
    Missed {
        /// Their number.
        count: u64,
        /// When that was noticed, as in [`Entry::time`].
        time: u64,
    },
}

/// One who follows events of some kinds. Ends when dropped.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    id: u64,
    kinds: Kinds,
    place: Place,
    present: VecDeque<Event>,
    /// For those.
    charge: Option<Charge>,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, kinds: Kinds) -> Self {
        let (id, place) = shared.log.join(kinds);
        Self {
            shared,
            id,
            kinds,
            place,
            present: VecDeque::new(),
            charge: None,
        }
    }

    /// The kinds that are followed.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// Tells of `events`, which describe what is there already, before all others. Those of other
    /// kinds are left out.
    pub fn begin_with(&mut self, events: impl IntoIterator<Item = Event>) {
        let kinds = self.kinds;
        let wanted = |event: &Event| kinds.contains(event.kind());
        self.present.extend(events.into_iter().filter(wanted));
    }

    /// What it begins with is charged by `charge` as well, which is of the same account as others
    /// before.
    pub fn charged(&mut self, charge: Charge) {
        match &mut self.charge {
            Some(held) => held.merge(charge),
            None => self.charge = Some(charge),
        }
    }

    /// What comes next, if it is there already.
    pub fn try_next(&mut self) -> Option<Followed> {
        self.take(None)
    }

    fn take(&mut self, waker: Option<&std::task::Waker>) -> Option<Followed> {
        if let Some(event) = self.present.pop_front() {
            let time = self.shared.log.time();
            return Some(Followed::Present(Entry { event, time }));
        }
        if self.charge.is_some() {
            (self.present, self.charge) = (VecDeque::new(), None);
        }
        let found = (self.shared.log).next(self.id, self.kinds, &mut self.place, waker)?;
        Some(match found {
            Found::Entry(entry) => Followed::Event(entry),
            Found::Missed(count) => Followed::Missed {
                count,
                time: self.shared.log.time(),
            },
        })
    }

    /// What comes next.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn next(&mut self) -> Followed {
        poll_fn(|cx| {
            self.take(Some(cx.waker()))
                .map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.log.leave(self.id, self.kinds);
    }
}
