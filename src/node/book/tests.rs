use super::{
    known::{MAX_ADDRESS, MAX_ADDRESSES},
    *,
};

fn address(port: usize) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[test]
fn an_address_of_another_peer_is_forgotten_at_once() {
    let book = AddressBook::default();
    let peer = PeerId::random();
    book.connected(peer, Some(address(1)));
    book.add(peer, [address(2)], TEMPORARY, Origin::Given);
    assert_eq!(book.wrong(&peer, &address(1)), Fate::Forgotten);
    assert_eq!(book.wrong(&peer, &address(1)), Fate::Kept);
    assert_eq!(book.get(&peer), [address(2)]);
}

#[test]
fn an_address_that_never_worked_is_forgotten_one_that_did_comes_last() {
    let book = AddressBook::default();
    let peer = PeerId::random();
    book.connected(peer, Some(address(1)));
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
    book.connected(peer, Some(address(1)));
    assert_eq!(book.get(&peer), [address(1), address(3)]);
}

#[test]
fn nothing_is_left_of_a_peer_without_addresses() {
    let book = AddressBook::default();
    let peer = PeerId::random();
    book.add(peer, [address(1)], TEMPORARY, Origin::Given);
    book.wrong(&peer, &address(1));
    assert!(book.peers().is_empty());
    book.add(peer, [address(1)], Duration::ZERO, Origin::Given);
    assert!(book.peers().is_empty());
}

#[test]
fn protocols_outlive_the_connection_as_addresses_do() {
    let book = AddressBook::default();
    let peer = PeerId::random();
    let protocols: Arc<[String]> = ["/a".to_owned()].into();
    book.set_protocols(&peer, protocols.clone());
    assert_eq!(book.protocols(&peer), None);
    book.connected(peer, None);
    book.set_protocols(&peer, protocols.clone());
    book.set_connected(peer, vec![address(1)], Origin::Given);
    book.disconnected(&peer);
    assert_eq!(book.protocols(&peer), Some(protocols));
    book.wrong(&peer, &address(1));
    assert_eq!(book.protocols(&peer), None);
}

#[test]
fn connected_peers_are_never_forgotten_for_others() {
    let book = AddressBook::default();
    let connected: Vec<PeerId> = (0..10).map(|_| PeerId::random()).collect();
    for peer in &connected {
        book.connected(*peer, None);
    }
    let first = PeerId::random();
    book.add(first, [address(1)], TEMPORARY, Origin::Given);
    for _ in 0..2 * MAX_PEERS {
        book.add(PeerId::random(), [address(2)], CONNECTED, Origin::Given);
        assert!(book.peers().len() <= MAX_PEERS);
    }
    assert!(connected.iter().all(|peer| book.peers().contains_key(peer)));
    assert!(book.get(&first).is_empty());
}

#[test]
fn one_peer_has_so_many_addresses() {
    let book = AddressBook::default();
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
