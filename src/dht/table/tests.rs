use std::net::IpAddr;

use super::*;

fn admit(table: &mut Table, peer: PeerId, group: Option<Group>) -> Admission {
    table.admit(peer, group, Instant::now(), |_| true)
}

fn full() -> (Table, Vec<PeerId>) {
    let mut table = Table::new(PeerId::random());
    let peers: Vec<PeerId> = (0..2000)
        .map(|_| PeerId::random())
        .filter(|peer| admit(&mut table, *peer, None) == Admission::New(None))
        .collect();
    (table, peers)
}

/// An id of the farthest bucket.
fn far(table: &Table) -> PeerId {
    std::iter::repeat_with(PeerId::random)
        .find(|peer| {
            let key = Key::of(&peer.to_bytes());
            table.own.distance(&key).common_prefix_len() == 0
        })
        .expect("endless")
}

fn bucket(table: &Table) -> Vec<PeerId> {
    let (bits, peers) = table.by_bucket().next().expect("peers");
    assert_eq!(bits, 0);
    peers
}

fn group(second: u8) -> Option<Group> {
    Group::of(IpAddr::from([8, second, 1, 1]))
}

/// When every entry of a table made just now has been silent for long.
fn later() -> Instant {
    Instant::now() + 2 * CONNECTED_SILENCE
}

#[test]
fn buckets_hold_twenty() {
    let (table, peers) = full();
    let sizes: Vec<usize> = table.by_bucket().map(|(_, peers)| peers.len()).collect();
    assert_eq!(sizes.iter().max(), Some(&K));
    assert_eq!(sizes.iter().sum::<usize>(), peers.len());
    assert!(peers.len() < 400, "{}", peers.len());
}

#[test]
fn the_closest_are_those_of_the_whole_table() {
    let (table, mut peers) = full();
    for _ in 0..100 {
        let target = Key::of(&PeerId::random().to_bytes());
        peers.sort_by_key(|peer| Key::of(&peer.to_bytes()).distance(&target));
        assert_eq!(table.closest(&target, K), peers[..K]);
        assert_eq!(table.closest(&target, 1), peers[..1]);
        assert_eq!(table.closest_verified(&target, K), peers[..K]);
    }
    let all = table.closest(&Key::of(b"all"), usize::MAX);
    assert_eq!(all.len(), peers.len());
}

#[test]
fn whoever_has_answered_lately_keeps_its_place() {
    let (mut table, _) = full();
    let before = bucket(&table);
    for _ in 0..300 {
        let newcomer = far(&table);
        // Connected or not.
        assert_eq!(table.offer(newcomer, None, |_| false), Admission::Full);
        let admitted = table.admit(newcomer, None, Instant::now(), |_| false);
        assert_eq!(admitted, Admission::Full);
    }
    assert_eq!(bucket(&table), before);
}

#[test]
fn the_one_that_was_silent_for_longest_is_challenged() {
    let (mut table, _) = full();
    let before = bucket(&table);
    for peer in &before[1..] {
        table.answered(peer);
    }
    let newcomer = far(&table);
    let admit = |table: &mut Table, peer| table.admit(peer, None, later(), |_| true);
    assert_eq!(admit(&mut table, newcomer), Admission::Challenge(before[0]));
    assert_eq!(bucket(&table), before, "nobody gives way before the answer");
    // It has not answered.
    assert!(table.remove(&before[0]));
    assert_eq!(admit(&mut table, newcomer), Admission::New(None));
    assert_eq!(admit(&mut table, newcomer), Admission::Known);
    assert!(bucket(&table).contains(&newcomer));
}

#[test]
fn who_has_answered_nothing_displaces_nobody_and_is_told_to_nobody() {
    let mut table = Table::new(PeerId::random());
    let unverified: Vec<PeerId> = (0..K).map(|_| far(&table)).collect();
    for peer in &unverified {
        assert_eq!(table.offer(*peer, None, |_| true), Admission::New(None));
        assert_eq!(table.common_prefix_len(peer), None);
    }
    assert_eq!(table.closest(&Key::of(b"key"), K).len(), K);
    assert!(table.closest_verified(&Key::of(b"key"), K).is_empty());
    assert_eq!(table.offer(far(&table), None, |_| true), Admission::Full);
    // Those that have gone make room at once.
    let newcomer = far(&table);
    let left = unverified[3];
    let admitted = table.offer(newcomer, None, |peer| *peer != left);
    assert_eq!(admitted, Admission::New(Some(left)));
    table.answered(&newcomer);
    assert!(!table.remove_unverified(&newcomer));
    assert!(table.remove_unverified(&unverified[0]));
    assert_eq!(table.verified(), [newcomer]);
    assert_eq!(table.common_prefix_len(&newcomer), Some(0));
}

#[test]
fn one_network_alone_may_have_all() {
    let mut table = Table::new(PeerId::random());
    for _ in 0..K {
        let peer = far(&table);
        assert_eq!(admit(&mut table, peer, group(1)), Admission::New(None));
    }
    let peer = far(&table);
    assert_eq!(admit(&mut table, peer, group(1)), Admission::Full);
}

#[test]
fn a_network_gets_half_of_a_bucket_where_there_are_others() {
    let mut table = Table::new(PeerId::random());
    let other = far(&table);
    let _ = admit(&mut table, other, group(2));
    let mut admitted = Vec::new();
    for _ in 0..100 {
        let peer = far(&table);
        if admit(&mut table, peer, group(1)) == Admission::New(None) {
            admitted.push(peer);
        }
    }
    assert_eq!(admitted.len(), MAX_PER_GROUP);
    let newcomer = far(&table);
    let challenged = table.admit(newcomer, group(1), later(), |_| true);
    assert_eq!(
        challenged,
        Admission::Challenge(admitted[0]),
        "its own kind"
    );
    for number in 3..12 {
        let peer = far(&table);
        assert_eq!(admit(&mut table, peer, group(number)), Admission::New(None));
    }
    assert_eq!(bucket(&table).len(), K);
}

#[test]
fn a_crowd_gives_way_to_other_networks_down_to_its_share() {
    let mut table = Table::new(PeerId::random());
    let crowd: Vec<PeerId> = (0..K).map(|_| far(&table)).collect();
    for peer in &crowd {
        let _ = admit(&mut table, *peer, group(1));
    }
    for number in 2..100 {
        let peer = far(&table);
        // Not before it has answered.
        let offered = table.offer(peer, group(number), |_| true);
        assert!(!matches!(offered, Admission::New(_)), "{offered:?}");
        let admitted = admit(&mut table, peer, group(number));
        let kept = bucket(&table)
            .iter()
            .filter(|peer| crowd.contains(peer))
            .count();
        if number < 20 {
            assert!(
                matches!(admitted, Admission::New(Some(_))),
                "{number}: {admitted:?}"
            );
        } else {
            assert_eq!(admitted, Admission::Full);
            assert_eq!(kept, GROUP_SHARE);
        }
    }
    let kept = bucket(&table);
    assert!(
        kept.contains(&crowd[0]) && kept.contains(&crowd[1]),
        "the oldest stay"
    );
    // Nor does it come back.
    let peer = far(&table);
    assert_eq!(admit(&mut table, peer, group(1)), Admission::Full);
}

#[test]
fn peers_of_the_same_site_do_not_crowd_each_other() {
    let mut table = Table::new(PeerId::random());
    for _ in 0..K {
        let peer = far(&table);
        assert_eq!(admit(&mut table, peer, None), Admission::New(None));
    }
    let peer = far(&table);
    assert_eq!(admit(&mut table, peer, group(1)), Admission::Full);
}

#[test]
fn a_peer_is_removed_once() {
    let (mut table, peers) = full();
    assert!(table.remove(&peers[0]) && !table.remove(&peers[0]));
    assert_eq!(table.verified().len(), peers.len() - 1);
}
