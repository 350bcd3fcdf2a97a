//! Who may be reached through this relay, and how many circuits each peer has.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    sync::Weak,
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;
use tokio::time::Instant;

use super::message::Status;
use crate::{fixed_limits::fixed_limit, limit_hits::Limit, streams::Peer};

/// How long a reservation lasts (go-libp2p's value).
pub(super) const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long a reservation counts for the peer's address, even if the peer has left
/// (go-libp2p's value).
const MEMORY: Duration = Duration::from_secs(30 * 60);

/// How long a peer that reserves again gets the same answer. Each new one costs a signature.
const SAME_ANSWER: Duration = Duration::from_secs(60);
fixed_limit!("relay: time in which the same voucher is given again", time SAME_ANSWER);

/// Addresses remembered whose reservations count (SECURITY.md 3). The one whose reservations are
/// over first is forgotten first.
pub(crate) const MAX_ADDRESSES: usize = 4096;
fixed_limit!(
    "relay: addresses whose reservations are counted",
    MAX_ADDRESSES
);

/// Between two looks at which addresses no longer count. One takes a tenth of a millisecond.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Whether who has reserved is still there.
pub(super) trait Presence {
    /// Whether the same direct connection, or one made beside it, still exists.
    fn is_present(&self) -> bool;
}

impl Presence for Weak<Peer> {
    fn is_present(&self) -> bool {
        self.upgrade()
            .is_some_and(|peer| peer.direct_connection().is_some())
    }
}

/// What a peer is given with its reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pledge {
    /// When the reservation ends, in seconds after 1970-01-01 UTC.
    pub expire: u64,
    /// The relay's signed word; none if its key cannot sign.
    pub voucher: Option<Bytes>,
}

#[derive(Debug)]
struct Reservation<P> {
    presence: P,
    begin: Instant,
    pledge: Option<Pledge>,
}

impl<P: Presence> Reservation<P> {
    fn holds(&self, now: Instant) -> bool {
        now.duration_since(self.begin) < LIFETIME && self.presence.is_present()
    }
}

/// The tables of a relay.
#[derive(Debug)]
pub(super) struct Reservations<P> {
    max_reservations: usize,
    max_circuits: usize,
    peers: HashMap<PeerId, Reservation<P>>,
    /// For each address, when its reservations no longer count, the first to end in front.
    addresses: HashMap<IpAddr, VecDeque<Instant>>,
    /// When those that no longer count were dropped last.
    swept: Option<Instant>,
    /// Circuits of each peer, as source or destination.
    circuits: HashMap<PeerId, usize>,
}

impl<P: Presence> Reservations<P> {
    /// At most `max_reservations` in all, and as many in half an hour for one address, and
    /// `max_circuits` of one peer.
    pub(super) fn new(max_reservations: usize, max_circuits: usize) -> Self {
        Self {
            max_reservations,
            max_circuits,
            peers: HashMap::new(),
            addresses: HashMap::new(),
            swept: None,
            circuits: HashMap::new(),
        }
    }

    /// What `peer` was given a moment ago, if that still holds.
    pub(super) fn recent(&self, peer: &PeerId, now: Instant) -> Option<Pledge> {
        let place = self.peers.get(peer)?;
        let recent = now.duration_since(place.begin) < SAME_ANSWER && place.holds(now);
        place.pledge.clone().filter(|_| recent)
    }

    /// Whether `peer` has a reservation, be it that it no longer holds.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Reserves a place for `peer`, or renews its reservation. `address` is what it counts for.
    ///
    /// # Errors
    /// The status that says why not.
    pub(super) fn reserve(
        &mut self,
        peer: PeerId,
        address: Option<IpAddr>,
        presence: P,
        now: Instant,
    ) -> Result<(), Status> {
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= self.max_reservations {
                Limit::RelayReservations.hit();
                return Err(Status::ReservationRefused);
            }
            if let Some(address) = address {
                self.count_for(address, now)?;
            }
        }
        let reservation = Reservation {
            presence,
            begin: now,
            pledge: None,
        };
        self.peers.insert(peer, reservation);
        Ok(())
    }

    fn count_for(&mut self, address: IpAddr, now: Instant) -> Result<(), Status> {
        let known = self.addresses.contains_key(&address);
        if !known && self.addresses.len() >= MAX_ADDRESSES {
            let last = |(_, counted): &(_, &VecDeque<Instant>)| counted.back().copied();
            let first = self.addresses.iter().min_by_key(last);
            if let Some(first) = first.map(|(address, _)| *address) {
                self.addresses.remove(&first);
            }
        }
        let counted = self.addresses.entry(address).or_default();
        drop_over(counted, now);
        if counted.len() >= self.max_reservations {
            Limit::RelayAddress.hit();
            return Err(Status::ReservationRefused);
        }
        counted.push_back(now + MEMORY);
        Ok(())
    }

    /// Notes what `peer` is given with the reservation it has.
    pub(super) fn pledge(&mut self, peer: &PeerId, pledge: Pledge) {
        if let Some(place) = self.peers.get_mut(peer) {
            place.pledge = Some(pledge);
        }
    }

    /// Takes back the reservation of a peer that was not told of it. Whether there was one.
    pub(super) fn retract(&mut self, peer: &PeerId) -> bool {
        self.peers.remove(peer).is_some()
    }

    /// Counts a circuit from `source` to `destination`.
    ///
    /// # Errors
    /// The status that says why there can be none.
    pub(super) fn connect(
        &mut self,
        source: PeerId,
        destination: PeerId,
        now: Instant,
    ) -> Result<(), Status> {
        let reserved = self.peers.get(&destination);
        if !reserved.is_some_and(|place| place.holds(now)) {
            return Err(Status::NoReservation);
        }
        for peer in [source, destination] {
            if self.circuits_of(&peer) >= self.max_circuits {
                Limit::RelayCircuits.hit();
                return Err(Status::ResourceLimitExceeded);
            }
        }
        for peer in [source, destination] {
            *self.circuits.entry(peer).or_default() += 1;
        }
        Ok(())
    }

    /// Counts a circuit of `peer` no longer.
    pub(super) fn disconnect(&mut self, peer: PeerId) {
        if let Entry::Occupied(mut count) = self.circuits.entry(peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Circuits of `peer`.
    pub(super) fn circuits_of(&self, peer: &PeerId) -> usize {
        self.circuits.get(peer).copied().unwrap_or(0)
    }

    /// Reservations that hold.
    pub(super) fn count(&self, now: Instant) -> usize {
        let places = self.peers.values();
        places.filter(|place| place.holds(now)).count()
    }

    /// Drops what is over. The peers whose reservations those were.
    pub(super) fn forget(&mut self, now: Instant) -> Vec<PeerId> {
        let over = self.peers.extract_if(|_, place| !place.holds(now));
        let over = over.map(|(peer, _)| peer).collect();
        // Whoever asks without end must not have thousands of addresses looked at each time.
        let due = self.swept.is_none_or(|swept| now >= swept + SWEEP_INTERVAL);
        if due {
            self.swept = Some(now);
            self.addresses.retain(|_, counted| {
                drop_over(counted, now);
                !counted.is_empty()
            });
        }
        over
    }
}

/// Drops the times that are over, which are in front.
fn drop_over(counted: &mut VecDeque<Instant>, now: Instant) {
    while counted.front().is_some_and(|end| *end <= now) {
        counted.pop_front();
    }
}

#[cfg(test)]
mod tests;
