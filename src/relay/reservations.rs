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
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
    };

    use super::*;

    impl Presence for Arc<AtomicBool> {
        fn is_present(&self) -> bool {
            self.load(Relaxed)
        }
    }

    type Table = Reservations<Arc<AtomicBool>>;

    fn present() -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(true))
    }

    /// A new reservation of a peer at `address`, as the service asks for it.
    fn reserve(table: &mut Table, peer: PeerId, address: u32, now: Instant) -> Result<(), Status> {
        table.forget(now);
        let address = IpAddr::V4(Ipv4Addr::from_bits(address));
        table.reserve(peer, Some(address), present(), now)
    }

    #[test]
    fn reservations_are_counted_renewed_and_end() {
        let mut table = Reservations::new(3, 16);
        let start = Instant::now();
        let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
        for peer in &peers[..3] {
            assert_eq!(table.reserve(*peer, None, present(), start), Ok(()));
        }
        let refused = Err(Status::ReservationRefused);
        assert_eq!(table.reserve(peers[3], None, present(), start), refused);
        let later = start + LIFETIME - Duration::from_secs(1);
        assert_eq!(table.forget(later), []);
        assert_eq!(table.reserve(peers[0], None, present(), later), Ok(()));
        assert_eq!(table.reserve(peers[3], None, present(), later), refused);
        let end = start + LIFETIME;
        let mut over = table.forget(end);
        over.sort_unstable();
        let mut expected = peers[1..3].to_vec();
        expected.sort_unstable();
        assert_eq!(over, expected);
        assert_eq!(table.reserve(peers[3], None, present(), end), Ok(()));
        assert_eq!(table.count(end), 2);
        assert_eq!(table.connect(peers[3], peers[0], end), Ok(()));
        let gone = Err(Status::NoReservation);
        assert_eq!(table.connect(peers[3], peers[1], end), gone);
    }

    #[test]
    fn a_reservation_ends_with_the_peers_connection() {
        let mut table = Reservations::new(1, 16);
        let now = Instant::now();
        let (one, other) = (PeerId::random(), PeerId::random());
        let connection = present();
        assert_eq!(table.reserve(one, None, connection.clone(), now), Ok(()));
        connection.store(false, Relaxed);
        assert_eq!(table.connect(other, one, now), Err(Status::NoReservation));
        assert_eq!(table.forget(now), [one]);
        assert_eq!(table.reserve(other, None, present(), now), Ok(()));
    }

    #[test]
    fn who_reserves_again_and_again_gets_the_same_answer() {
        let mut table = Reservations::new(2, 16);
        let (now, peer) = (Instant::now(), PeerId::random());
        let connection = present();
        assert_eq!(table.reserve(peer, None, connection.clone(), now), Ok(()));
        assert_eq!(table.recent(&peer, now), None, "nothing was given yet");
        let pledge = Pledge {
            expire: 1,
            voucher: None,
        };
        table.pledge(&peer, pledge.clone());
        let soon = now + SAME_ANSWER - Duration::from_millis(1);
        assert_eq!(table.recent(&peer, soon), Some(pledge));
        assert_eq!(table.recent(&peer, now + SAME_ANSWER), None);
        connection.store(false, Relaxed);
        assert_eq!(table.recent(&peer, soon), None, "it has left since");
        assert!(table.retract(&peer) && !table.retract(&peer));
    }

    #[test]
    fn an_address_cannot_reserve_without_end() {
        let mut table = Reservations::new(128, 16);
        let start = Instant::now();
        let granted = |table: &mut Table, now| {
            let granted = (0..1000).filter(|_| {
                let peer = PeerId::random();
                let granted = reserve(table, peer, 1, now).is_ok();
                table.retract(&peer);
                granted
            });
            granted.count()
        };
        assert_eq!(granted(&mut table, start), 128);
        assert_eq!(granted(&mut table, start + MEMORY / 2), 0);
        assert_eq!(reserve(&mut table, PeerId::random(), 2, start), Ok(()));
        assert_eq!(granted(&mut table, start + MEMORY), 128);
        table.forget(start + 3 * MEMORY);
        assert!(table.addresses.is_empty() && table.peers.is_empty());
    }

    #[test]
    fn addresses_without_end_are_bounded() {
        let mut table = Reservations::new(2, 16);
        let start = Instant::now();
        for number in 0..MAX_ADDRESSES + 64 {
            let now = start + Duration::from_millis(number as u64);
            let address = Ipv4Addr::from_bits(u32::try_from(number).expect("fits"));
            let (peer, address) = (PeerId::random(), Some(IpAddr::V4(address)));
            assert_eq!(table.reserve(peer, address, present(), now), Ok(()));
            assert!(table.retract(&peer));
            assert!(table.addresses.len() <= MAX_ADDRESSES);
        }
        // Those that came first are forgotten.
        let first = IpAddr::V4(Ipv4Addr::from_bits(0));
        assert!(!table.addresses.contains_key(&first));
    }

    #[test]
    fn addresses_are_looked_at_once_a_second_however_often_is_asked() {
        let mut table = Reservations::new(2, 16);
        let start = Instant::now();
        assert_eq!(reserve(&mut table, PeerId::random(), 1, start), Ok(()));
        let end = start + MEMORY;
        table.forget(end - SWEEP_INTERVAL / 2);
        table.forget(end);
        assert_eq!(table.addresses.len(), 1, "looked at a moment ago");
        // What counts for the one that asks is exact all the same.
        for _ in 0..2 {
            assert_eq!(reserve(&mut table, PeerId::random(), 1, end), Ok(()));
            table.peers.clear();
        }
        table.forget(end + MEMORY + SWEEP_INTERVAL);
        assert!(table.addresses.is_empty());
    }

    #[test]
    fn circuits_count_at_both_ends() {
        let mut table = Reservations::new(8, 2);
        let now = Instant::now();
        let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
        for peer in &peers {
            assert_eq!(table.reserve(*peer, None, present(), now), Ok(()));
        }
        let full = Err(Status::ResourceLimitExceeded);
        assert_eq!(table.connect(peers[0], peers[1], now), Ok(()));
        assert_eq!(table.connect(peers[2], peers[1], now), Ok(()));
        assert_eq!(table.connect(peers[3], peers[1], now), full, "destination");
        assert_eq!(table.connect(peers[1], peers[3], now), full, "source");
        assert_eq!(table.circuits_of(&peers[3]), 0, "a refusal counts for none");
        for peer in [peers[2], peers[1]] {
            table.disconnect(peer);
        }
        assert_eq!(table.connect(peers[3], peers[1], now), Ok(()));
        for peer in [peers[0], peers[1], peers[3], peers[1]] {
            table.disconnect(peer);
        }
        assert!(table.circuits.is_empty());
    }
}
