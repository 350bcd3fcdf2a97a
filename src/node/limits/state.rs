//! Which inbound connections there are, and which handshake gives way to a newcomer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::{
    rates::Rates,
    source::{Level, Source},
};
use crate::memory::Charge;

/// The number of a connection.
pub(super) type Id = u64;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its prefix has as many as it may.
    Count(Level),
    /// Its prefix has made as many of late as it may.
    Rate(Level),
    /// There are as many inbound connections as there may be.
    Inbound,
    /// There are as many connections as there may be.
    Established,
    /// There is no room for its handshake.
    Memory,
}

impl Reason {
    /// What is wrong with the address that the connection comes from, if that is the reason.
    pub(super) fn of_the_address(self) -> Option<&'static str> {
        match self {
            Self::Count(_) => Some("its address has too many connections"),
            Self::Rate(_) => Some("its address connects too often"),
            Self::Inbound | Self::Established | Self::Memory => None,
        }
    }
}

/// How many inbound connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Handshakes.
    pub(super) pending: usize,
    /// Connections, handshakes included.
    pub(super) inbound: usize,
    /// The same, where that is more than all connections leave beside those that were dialed.
    pub(super) beside_outbound: usize,
}

/// A connection that is being secured.
#[derive(Debug)]
struct Handshake {
    source: Option<Source>,
    /// When it last made progress, in any unit.
    moved: Arc<AtomicU64>,
    over: CancellationToken,
    /// For its buffers. Given back with the place.
    _charge: Charge,
}

impl Handshake {
    fn group(&self) -> Option<IpNet> {
        self.source.map(|source| source.group)
    }

    fn is_within(&self, prefix: IpNet) -> bool {
        let mut levels = self.source.iter().flat_map(Source::levels);
        levels.any(|level| level.prefix == prefix)
    }
}

/// What a newcomer gets.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: Id,
    pub(super) source: Option<Source>,
    pub(super) moved: Arc<AtomicU64>,
    /// Cancelled when the handshake gives way.
    pub(super) over: CancellationToken,
}

/// A newcomer's place, and what it has cost others.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) place: Place,
    /// The prefix within which a handshake gave way.
    pub(super) full: Option<Level>,
    /// Handshakes that gave way since there were too many of all.
    pub(super) gave_way: usize,
}

/// All inbound connections.
#[derive(Debug, Default)]
pub(super) struct State {
    handshakes: HashMap<Id, Handshake>,
    established: usize,
    /// Connections of each prefix, handshakes included.
    counts: HashMap<IpNet, usize>,
    rates: Rates,
    last: Id,
}

impl State {
    /// A place for a connection from `source`, whose handshake is charged by `charge`.
    ///
    /// Whoever is established stays. A handshake gives way where its place is needed: within a
    /// prefix that has as many connections as it may, or among all, where the prefix with the most
    /// handshakes loses one. Of several, the one that has made no progress for longest.
    pub(super) fn admit(
        &mut self,
        source: Option<Source>,
        room: Room,
        now: Instant,
        charge: impl FnMut() -> Option<Charge>,
    ) -> Result<Admitted, Reason> {
        if let Some(source) = &source {
            let in_time = match source.proven {
                true => self.rates.admit(source.levels(), now),
                // Whoever sends packets in the name of others would use up what those may do.
                false => self.rates.check(source.levels(), now),
            };
            in_time.map_err(Reason::Rate)?;
            let full = source.levels().find(|level| self.is_full_for_good(*level));
            if let Some(level) = full {
                return Err(Reason::Count(level));
            }
        }
        if self.established >= room.inbound {
            return Err(Reason::Inbound);
        }
        if self.established >= room.beside_outbound {
            return Err(Reason::Established);
        }
        let (mut full, mut gave_way) = (None, 0);
        for level in source.iter().flat_map(Source::levels) {
            let limit = level.limits.connections;
            if limit > 0 && self.count(level.prefix) >= limit {
                self.give_way(|one| one.is_within(level.prefix))
                    .ok_or(Reason::Count(level))?;
                full = Some(level);
            }
        }
        let most = room.inbound.min(room.beside_outbound);
        while self.handshakes.len() >= room.pending
            || self.established + self.handshakes.len() >= most
        {
            self.largest_gives_way().ok_or(Reason::Inbound)?;
            gave_way += 1;
        }
        let group = source.map(|source| source.group);
        let (charge, more) = self.charge(group, charge).ok_or(Reason::Memory)?;
        Ok(Admitted {
            place: self.take_place(source, charge),
            full,
            gave_way: gave_way + more,
        })
    }

    /// What `charge` has charged for a handshake of `group`, and how many others gave way for it.
    /// `None` if there is no room.
    pub(super) fn charge(
        &mut self,
        group: Option<IpNet>,
        mut charge: impl FnMut() -> Option<Charge>,
    ) -> Option<(Charge, usize)> {
        let mut gave_way = 0;
        loop {
            if let Some(charge) = charge() {
                return Some((charge, gave_way));
            }
            self.larger_gives_way(group)?;
            gave_way += 1;
        }
    }

    fn take_place(&mut self, source: Option<Source>, charge: Charge) -> Place {
        self.last += 1;
        let place = Place {
            id: self.last,
            source,
            moved: Arc::default(),
            over: CancellationToken::new(),
        };
        for level in source.iter().flat_map(Source::levels) {
            *self.counts.entry(level.prefix).or_default() += 1;
        }
        let handshake = Handshake {
            source,
            moved: place.moved.clone(),
            over: place.over.clone(),
            _charge: charge,
        };
        self.handshakes.insert(place.id, handshake);
        place
    }

    /// The handshake is done. False if it has given way meanwhile.
    pub(super) fn establish(&mut self, id: Id, now: Instant) -> bool {
        let Some(handshake) = self.handshakes.remove(&id) else {
            return false;
        };
        if let Some(source) = handshake.source.filter(|source| !source.proven) {
            self.rates.spend(source.levels(), now);
        }
        self.established += 1;
        true
    }

    /// An established connection has ended.
    pub(super) fn close(&mut self, source: Option<Source>) {
        self.established = self.established.saturating_sub(1);
        self.release(source);
    }

    /// A handshake has failed, unless it has given way.
    pub(super) fn abandon(&mut self, id: Id) {
        if let Some(handshake) = self.handshakes.remove(&id) {
            self.release(handshake.source);
        }
    }

    fn release(&mut self, source: Option<Source>) {
        for level in source.iter().flat_map(Source::levels) {
            let count = self.count(level.prefix);
            if count > 1 {
                self.counts.insert(level.prefix, count - 1);
            } else {
                self.counts.remove(&level.prefix);
            }
        }
    }

    fn count(&self, prefix: IpNet) -> usize {
        self.counts.get(&prefix).copied().unwrap_or(0)
    }

    /// Whether no handshake could make room within the prefix.
    fn is_full_for_good(&self, level: Level) -> bool {
        let (prefix, limit) = (level.prefix, level.limits.connections);
        let count = self.count(prefix);
        if limit == 0 || count < limit {
            return false;
        }
        let handshakes = self.handshakes.values();
        let pending = handshakes.filter(|one| one.is_within(prefix)).count();
        count.saturating_sub(pending) >= limit
    }

    /// Handshakes of each group.
    fn groups(&self) -> HashMap<Option<IpNet>, usize> {
        let mut groups = HashMap::new();
        for handshake in self.handshakes.values() {
            *groups.entry(handshake.group()).or_default() += 1;
        }
        groups
    }

    /// Takes its place from a handshake of the group that has the most.
    fn largest_gives_way(&mut self) -> Option<()> {
        let groups = self.groups();
        let most = groups.values().copied().max()?;
        self.give_way(|one| groups.get(&one.group()) == Some(&most))
    }

    /// As [`State::largest_gives_way`], where that group will still not have fewer than `group`
    /// with a newcomer, else from `group` itself. What it lacks may be held by others than
    /// handshakes: whoever has one alone does not pay for that.
    fn larger_gives_way(&mut self, group: Option<IpNet>) -> Option<()> {
        let groups = self.groups();
        let own = groups.get(&group).copied().unwrap_or(0);
        let most = groups.values().copied().max()?;
        if most >= own + 2 {
            self.give_way(|one| groups.get(&one.group()) == Some(&most))
        } else {
            self.give_way(|one| one.group() == group)
        }
    }

    /// Takes its place from the handshake that has made no progress for longest, among those of
    /// `which`.
    fn give_way(&mut self, which: impl Fn(&Handshake) -> bool) -> Option<()> {
        let candidates = self.handshakes.iter().filter(|(_, one)| which(one));
        let quietest = candidates.min_by_key(|(id, one)| (one.moved.load(Relaxed), **id));
        let id = *quietest?.0;
        let handshake = self.handshakes.remove(&id)?;
        handshake.over.cancel();
        self.release(handshake.source);
        Some(())
    }
}

#[cfg(test)]
mod tests;
