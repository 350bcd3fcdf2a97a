//! The handlers of one protocol, and whose turn it is. Nothing here takes longer than the
//! logarithm of how many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::streams::target::{Kind, Target};

/// Handlers of one kind, taking turns in the order of their registration.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// By the number of the registration. One handler may be registered several times.
    slots: BTreeMap<u64, Target>,
    /// The same, by handler.
    numbers: HashMap<Target, BTreeSet<u64>>,
    /// The number of the next registration.
    added: u64,
    /// The turn is that of the first slot from this number on, or of the first of all.
    next: u64,
}

/// How far a stream has come among the handlers of its protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    kind: Kind,
    /// The slot whose turn it was.
    first: u64,
    /// Slots with these numbers are still to be tried.
    rest: Rest,
}

#[derive(Debug, Clone, Copy)]
enum Rest {
    /// Those from this number on, and then those before the first.
    From(u64),
    /// Those from this number on and before the first.
    Before(u64),
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a client's registration replaces what is here. The daemon's own handlers of echo
    /// and ping are the only ones of their protocols.
    pub(super) fn is_builtin(&self) -> bool {
        self.slots.values().next().is_none_or(Target::is_builtin)
    }

    /// The handlers, each as often as it is registered.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.slots.values()
    }

    pub(super) fn count(&self, target: &Target) -> usize {
        self.numbers.get(target).map_or(0, BTreeSet::len)
    }

    pub(super) fn add(&mut self, target: &Target) {
        let number = self.added;
        self.added += 1;
        self.slots.insert(number, target.clone());
        match self.numbers.get_mut(target) {
            Some(numbers) => {
                numbers.insert(number);
            }
            None => {
                self.numbers
                    .insert(target.clone(), BTreeSet::from([number]));
            }
        }
    }

    /// Removes the first slot of `target`; whether there was one.
    pub(super) fn remove(&mut self, target: &Target) -> bool {
        let Some(numbers) = self.numbers.get_mut(target) else {
            return false;
        };
        let number = numbers.pop_first();
        if numbers.is_empty() {
            self.numbers.remove(target);
        }
        number.is_some_and(|number| self.slots.remove(&number).is_some())
    }

    /// The handler whose turn it is; the turn passes on.
    fn turn(&mut self, kind: Kind) -> Option<(Target, Position)> {
        let from = self.slots.range(self.next..).next();
        let (number, target) = from.or_else(|| self.slots.iter().next())?;
        let (first, rest) = (*number, *number + 1);
        let target = target.clone();
        let is_last = self.slots.range(rest..).next().is_none();
        self.next = if is_last { 0 } else { rest };
        let position = Position {
            kind,
            first,
            rest: Rest::From(rest),
        };
        Some((target, position))
    }

    fn following(&self, position: &mut Position) -> Option<Target> {
        let (mut number, target) = match position.rest {
            Rest::From(from) => self.slots.range(from..).next(),
            Rest::Before(_) => None,
        }
        .or_else(|| {
            let from = match position.rest {
                Rest::From(_) => 0,
                Rest::Before(from) => from,
            };
            // A range must not begin behind its end.
            let before = (from < position.first).then(|| self.slots.range(from..position.first));
            before?.next()
        })
        .map(|(number, target)| (*number, target.clone()))?;
        number += 1;
        position.rest = if number > position.first {
            Rest::From(number)
        } else {
            Rest::Before(number)
        };
        Some(target)
    }
}

/// The handlers of one protocol. Only one kind is served at a time: that of the latest
/// registration, as in Hivemind's daemon.
#[derive(Debug, Default)]
pub(super) struct Slots {
    streams: Ring,
    calls: Ring,
    /// The kind of the latest registration.
    latest: Kind,
}

impl Slots {
    /// Registers `target`. Its kind is served from now on.
    pub(super) fn add(&mut self, target: &Target) {
        self.latest = target.kind();
        self.of_mut(self.latest).add(target);
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len() + self.calls.len()
    }

    pub(super) fn of(&self, kind: Kind) -> &Ring {
        match kind {
            Kind::Streams => &self.streams,
            Kind::Calls => &self.calls,
        }
    }

    pub(super) fn of_mut(&mut self, kind: Kind) -> &mut Ring {
        match kind {
            Kind::Streams => &mut self.streams,
            Kind::Calls => &mut self.calls,
        }
    }

    /// Whether a part of the daemon serves the protocol.
    pub(super) fn are_service(&self) -> bool {
        let first = self.streams.slots.values().next();
        matches!(first, Some(Target::Service(_)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.calls.is_empty()
    }

    /// The kind that is served.
    fn serving(&self) -> Kind {
        match self.latest {
            Kind::Streams if self.streams.is_empty() => Kind::Calls,
            Kind::Calls if self.calls.is_empty() => Kind::Streams,
            latest => latest,
        }
    }

    /// The handler of the next stream; the turn passes on.
    pub(super) fn turn(&mut self) -> Option<(Target, Position)> {
        let kind = self.serving();
        self.of_mut(kind).turn(kind)
    }

    /// The handler to try after those before `position`.
    pub(super) fn following(&self, position: &mut Position) -> Option<Target> {
        self.of(position.kind).following(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::streams::target::PersistentId;

    /// Handlers as a plain list, which is what the ring means.
    #[derive(Debug, Default)]
    struct Model {
        targets: Vec<u64>,
        next: usize,
    }

    impl Model {
        fn remove(&mut self, target: u64) -> bool {
            let Some(index) = self.targets.iter().position(|slot| *slot == target) else {
                return false;
            };
            self.targets.remove(index);
            if index < self.next {
                self.next -= 1;
            }
            true
        }

        fn turn(&mut self) -> Vec<u64> {
            if self.targets.is_empty() {
                return Vec::new();
            }
            let start = self.next % self.targets.len();
            self.next = (start + 1) % self.targets.len();
            let mut order = self.targets.clone();
            order.rotate_left(start);
            order
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u64),
        Remove(u64),
        Turn,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..5_u64).prop_map(Step::Add),
            (0..5_u64).prop_map(Step::Remove),
            Just(Step::Turn),
        ]
    }

    proptest! {
        /// Whatever is added, removed and served: the order is that of a list.
        #[test]
        fn turns_are_those_of_a_list(steps in prop::collection::vec(step(), 0..80)) {
            let (mut slots, mut model) = (Slots::default(), Model::default());
            let target = |n| Target::Persistent(PersistentId(n));
            for step in steps {
                match step {
                    Step::Add(n) => {
                        slots.of_mut(Kind::Calls).add(&target(n));
                        model.targets.push(n);
                    }
                    Step::Remove(n) => {
                        let removed = slots.of_mut(Kind::Calls).remove(&target(n));
                        prop_assert_eq!(removed, model.remove(n));
                    }
                    Step::Turn => {
                        let mut order = Vec::new();
                        if let Some((first, mut position)) = slots.turn() {
                            order.push(first);
                            while let Some(next) = slots.following(&mut position) {
                                order.push(next);
                            }
                        }
                        let expected: Vec<_> = model.turn().into_iter().map(target).collect();
                        prop_assert_eq!(order, expected);
                    }
                }
                let ring = slots.of(Kind::Calls);
                prop_assert_eq!(ring.len(), model.targets.len());
                for n in 0..5 {
                    let count = model.targets.iter().filter(|slot| **slot == n).count();
                    prop_assert_eq!(ring.count(&target(n)), count);
                }
            }
        }
    }

    #[test]
    fn a_stream_tries_those_that_are_registered_when_it_comes_to_them() {
        let target = |n| Target::Persistent(PersistentId(n));
        let mut slots = Slots::default();
        let ring = slots.of_mut(Kind::Calls);
        (0..4).for_each(|n| ring.add(&target(n)));
        slots.turn();
        let (first, mut position) = slots.turn().expect("a handler");
        assert_eq!(first, target(1));
        let ring = slots.of_mut(Kind::Calls);
        ring.remove(&target(2));
        ring.add(&target(9));
        let rest = std::iter::from_fn(|| slots.following(&mut position));
        assert_eq!(rest.collect::<Vec<_>>(), [target(3), target(9), target(0)]);
    }
}
