use super::*;

fn peer(prefix: [u8; 4], id: PeerId) -> Holder {
    Holder::Peer {
        prefix: Some(prefix.into()),
        peer: Some(id),
    }
}

fn nowhere(id: PeerId) -> PeerInfo {
    PeerInfo {
        id,
        addresses: Vec::new(),
    }
}

fn provide(store: &Store, key: &[u8], prefix: [u8; 4], id: PeerId) {
    store.put_provider(peer(prefix, id), key, nowhere(id));
}

#[test]
fn providers_are_those_of_the_key() {
    let store = Store::new(usize::MAX);
    let ids: Vec<PeerId> = (0..300).map(|_| PeerId::random()).collect();
    for id in &ids {
        provide(&store, b"key", [10, 0, 0, 1], *id);
        provide(&store, b"other key", [10, 0, 0, 1], PeerId::random());
    }
    let all = store.providers(b"key", 1000);
    assert_eq!(all.len(), ids.len());
    assert!(all.iter().all(|info| ids.contains(&info.id)));
    assert_eq!(store.providers(b"key", 20).len(), 20);
    assert!(store.providers(b"ke", 20).is_empty());
}

#[test]
fn many_ids_at_one_address_hide_nobody() {
    let store = Store::new(usize::MAX);
    let honest = PeerId::random();
    provide(&store, b"key", [10, 0, 0, 2], honest);
    for _ in 0..2 * MAX_PER_KEY {
        provide(&store, b"key", [10, 0, 0, 1], PeerId::random());
    }
    assert_eq!(store.providers(b"key", usize::MAX).len(), MAX_PER_KEY);
    for _ in 0..100 {
        let told = store.providers(b"key", 2);
        assert!(told.iter().any(|info| info.id == honest));
    }
    // Of one address the choice is left to chance.
    let store = Store::new(usize::MAX);
    for id in std::iter::once(honest).chain((0..256).map(|_| PeerId::random())) {
        provide(&store, b"key", [10, 0, 0, 1], id);
    }
    let told = (0..100).filter(|_| {
        let told = store.providers(b"key", 128);
        told.iter().any(|info| info.id == honest)
    });
    let told = told.count();
    assert!((20..=80).contains(&told), "told {told} times in 100");
}

#[test]
fn own_providers_are_told_first_and_stay() {
    let store = Store::new(usize::MAX);
    let own = PeerId::random();
    store.put_provider(Holder::Own, b"key", nowhere(own));
    for prefix in 0..200 {
        for _ in 0..10 {
            provide(&store, b"key", [10, 0, 0, prefix], PeerId::random());
        }
    }
    assert_eq!(store.providers(b"key", 1)[0].id, own);
}

#[test]
fn one_peer_does_not_flush_the_records_of_others() {
    let store = Store::new(1 << 20);
    let honest: Vec<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    for id in &honest {
        provide(&store, &id.to_bytes(), [10, 0, 0, 2], *id);
    }
    let greedy = PeerId::random();
    for number in 0..110_000_u32 {
        provide(&store, &number.to_be_bytes(), [10, 0, 0, 1], greedy);
    }
    for id in &honest {
        assert_eq!(store.providers(&id.to_bytes(), 1), [nowhere(*id)]);
    }
    let (_, providers, _) = store.usage();
    assert!(providers.evicted > 100_000, "{providers:?}");
}

#[test]
fn a_popular_key_does_not_hold_the_lock_for_long() {
    let store = Store::new(usize::MAX);
    for _ in 0..MAX_PER_KEY {
        provide(&store, b"key", [10, 0, 0, 1], PeerId::random());
    }
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        let _ = store.providers(b"key", 20);
        provide(&store, b"key", [10, 0, 0, 3], PeerId::random());
    }
    println!("{:?} for a look and an announcement", begun.elapsed() / 100);
    // Twenty times what it takes: the machine may be busy.
    assert!(begun.elapsed() < Duration::from_secs(5));
}
