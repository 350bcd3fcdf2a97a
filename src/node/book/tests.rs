use super::{
    known::{MAX_ADDRESS, MAX_ADDRESSES},
    *,
};

fn address(port: usize) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[test]
fn an_address_of_another_peer_is_forgotten_at_once() {
    let book = AddressBook::new(0);
    let peer = PeerId::random();
    book.connected(peer, Some(address(1)), None);
    book.add(peer, [address(2)], TEMPORARY, Origin::Given);
    assert_eq!(book.wrong(&peer, &address(1)), Fate::Forgotten);
    assert_eq!(book.wrong(&peer, &address(1)), Fate::Kept);
    assert_eq!(book.get(&peer), [address(2)]);
}

#[test]
fn an_address_that_never_worked_is_forgotten_one_that_did_comes_last() {
    let book = AddressBook::new(0);
    let peer = PeerId::random();
    book.connected(peer, Some(address(1)), None);
    book.disconnected(&peer);
    book.add(peer, [address(2)], TEMPORARY, Origin::Given);
    for fate in [Fate::Kept, Fate::Kept, Fate::Forgotten] {
        assert_eq!(book.failed(&peer, &address(2)), fate);
    }
    for _ in 0..1000 {
        assert_eq!(book.failed(&peer, &address(1)), Fate::Kept);
    }
    book.add(peer, [address(3)], TEMPORARY, Origin::Given);
    assert_eq!(book.get(&peer), [address(3), address(1)]);
    book.connected(peer, Some(address(1)), None);
    assert_eq!(book.get(&peer), [address(1), address(3)]);
}

#[test]
fn nothing_is_left_of_a_peer_without_addresses() {
    let book = AddressBook::new(0);
    let peer = PeerId::random();
    book.add(peer, [address(1)], TEMPORARY, Origin::Given);
    book.wrong(&peer, &address(1));
    assert!(book.peers().known.is_empty());
    book.add(peer, [address(1)], Duration::ZERO, Origin::Given);
    assert!(book.peers().known.is_empty());
}

#[test]
fn protocols_outlive_the_connection_as_addresses_do() {
    let book = AddressBook::new(0);
    let peer = PeerId::random();
    let protocols: Arc<[String]> = ["/a".to_owned()].into();
    book.set_protocols(&peer, protocols.clone());
    assert_eq!(book.protocols(&peer), None);
    book.connected(peer, None, None);
    book.set_protocols(&peer, protocols.clone());
    book.set_connected(peer, vec![address(1)], Origin::Given);
    book.disconnected(&peer);
    assert_eq!(book.protocols(&peer), Some(protocols));
    book.wrong(&peer, &address(1));
    assert_eq!(book.protocols(&peer), None);
}

#[test]
fn connected_peers_are_never_forgotten_for_others() {
    let book = AddressBook::new(0);
    let connected: Vec<PeerId> = (0..10).map(|_| PeerId::random()).collect();
    for peer in &connected {
        book.connected(*peer, None, None);
    }
    let first = PeerId::random();
    book.add(first, [address(1)], TEMPORARY, Origin::Given);
    for _ in 0..2 * MAX_PEERS {
        book.add(PeerId::random(), [address(2)], CONNECTED, Origin::Given);
        assert!(book.peers().known.len() <= MAX_PEERS);
    }
    assert!(
        connected
            .iter()
            .all(|peer| book.peers().known.contains_key(peer))
    );
    assert!(book.get(&first).is_empty());
}

#[test]
fn one_peer_has_so_many_addresses() {
    let book = AddressBook::new(0);
    let peer = PeerId::random();
    book.add(peer, (1..1000).map(address), TEMPORARY, Origin::Given);
    assert_eq!(book.get(&peer).len(), MAX_ADDRESSES);
    let long: Multiaddr = format!("/dns4/{}/tcp/1", "a".repeat(MAX_ADDRESS))
        .parse()
        .unwrap();
    let other = PeerId::random();
    book.add(other, [long], TEMPORARY, Origin::Given);
    assert!(book.get(&other).is_empty());
}

/// An address of nearly the largest size, another for each number.
fn large(number: usize) -> Multiaddr {
    format!("/dns4/{number:0>480}/tcp/1").parse().unwrap()
}

#[test]
fn what_peers_tell_takes_so_much_and_no_more() {
    let memory = 64 << 20;
    let book = AddressBook::new(memory);
    let prefix = |number: u8| Some(IpAddr::from([203, 0, 113, number]));
    let honest: Vec<PeerId> = (0..10).map(|_| PeerId::random()).collect();
    for (peer, number) in honest.iter().zip(1..) {
        book.connected(*peer, Some(address(1)), prefix(number));
        book.disconnected(peer);
    }
    let mut last = PeerId::random();
    for _ in 0..2000 {
        last = PeerId::random();
        book.connected(last, None, prefix(200));
        book.set_connected(last, (0..64).map(large).collect(), Origin::Given);
        let told = book.get(&last).len();
        assert!((20..32).contains(&told), "{told} addresses");
        book.disconnected(&last);
        assert!(book.peers().bytes as u64 <= memory / SHARE);
    }
    assert!(!book.get(&last).is_empty(), "the last one");
    // Whoever comes with many ids displaces its own.
    assert!(honest.iter().all(|peer| book.get(peer) == [address(1)]));
    let bytes: usize = book.peers().known.values().map(Known::cost).sum();
    assert_eq!(bytes, book.peers().bytes, "the sum is kept");
}

/// What others say of a peer must not keep its own word out.
#[test]
fn of_too_many_addresses_those_that_are_worth_most_stay() {
    let book = AddressBook::new(0);
    let peer = PeerId::random();
    book.add(peer, (1..1000).map(address), TEMPORARY, Origin::Hearsay);
    let own: Vec<_> = (2000..2010).map(address).collect();
    book.set_connected(peer, own.clone(), Origin::Hearsay);
    book.connected(peer, Some(address(3000)), None);
    book.add(peer, [address(4000)], TEMPORARY, Origin::Given);
    let known = book.get(&peer);
    assert_eq!(known.len(), MAX_ADDRESSES);
    for port in (2000..2010).chain([3000, 4000]) {
        assert!(known.contains(&address(port)), "{port}");
    }
    // The peer's own word does not displace itself, and nobody else's does.
    book.set_connected(peer, (5000..6000).map(address).collect(), Origin::Hearsay);
    book.add(peer, (6000..7000).map(address), TEMPORARY, Origin::Hearsay);
    let known = book.get(&peer);
    assert_eq!(known.len(), MAX_ADDRESSES);
    assert!(known.contains(&address(3000)) && known.contains(&address(5000)));
    let others: Vec<_> = (6000..7000).map(address).collect();
    assert!(known.iter().all(|known| !others.contains(known)));
    // One that fails makes room, and a large one takes that of several.
    assert_eq!(book.failed(&peer, &address(5000)), Fate::Kept);
    book.add(peer, [address(8000)], CONNECTED, Origin::Hearsay);
    let known = book.get(&peer);
    assert!(known.contains(&address(8000)) && !known.contains(&address(5000)));
    let bytes: usize = book.peers().known.values().map(Known::cost).sum();
    assert_eq!(bytes, book.peers().bytes, "the sum is kept");
}
