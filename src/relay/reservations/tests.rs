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
