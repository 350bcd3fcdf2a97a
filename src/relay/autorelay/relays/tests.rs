use super::{super::reserve::Allowance, *};

const PRIVATE: Reach = Reach::Private;

fn granted(lifetime: u64) -> Granted {
    Granted {
        lifetime: Duration::from_secs(lifetime),
        allowance: Allowance {
            data: 0,
            time: Duration::ZERO,
        },
    }
}

fn trusting(peers: &[PeerId], discovery: bool) -> (Relays, Instant) {
    let now = Instant::now();
    let trusted = peers.iter().map(|peer| (*peer, Vec::new()));
    (Relays::new(trusted, discovery, now), now)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Who is asked at `now`, all of the same rank but those that come first in `order`.
fn picked(relays: &mut Relays, reach: Reach, now: Instant, order: &[PeerId]) -> Vec<PeerId> {
    let rank = |peer: &PeerId| {
        let place = order.iter().position(|known| known == peer);
        place.unwrap_or(usize::MAX)
    };
    let tries = relays.pick(reach, now, rank);
    tries.into_iter().map(|tried| tried.relay).collect()
}

fn random(count: usize) -> Vec<PeerId> {
    (0..count).map(|_| PeerId::random()).collect()
}

#[test]
fn trusted_relays_are_asked_at_once_and_all_of_them() {
    let peers = random(3);
    let (mut relays, now) = trusting(&peers, false);
    assert!(!relays.is_settled());
    for reach in [Reach::Unknown, Reach::Public] {
        assert!(picked(&mut relays, reach, now, &[]).is_empty());
        assert_eq!(relays.next(reach), None);
    }
    assert_eq!(picked(&mut relays, PRIVATE, now, &[]).len(), 3);
    assert!(
        picked(&mut relays, PRIVATE, now, &[]).is_empty(),
        "asked twice"
    );
    assert_eq!(relays.next(PRIVATE), None);
    for peer in &peers {
        assert!(relays.succeeded(peer, granted(3600), now));
    }
    assert!(relays.is_settled());
    assert_eq!(relays.held().len(), 3);
    // Nobody is looked for.
    assert!(!relays.found(PeerId::random(), now));
    assert_eq!(relays.missing(), 0);
}

#[test]
fn a_trusted_relay_is_asked_again_within_a_minute_whatever_happens() {
    let peers = random(1);
    let (mut relays, mut now) = trusting(&peers, false);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(picked(&mut relays, PRIVATE, now, &[]), peers);
        assert!(!relays.failed(&peers[0], Failure::Other, now));
        let next = relays.next(PRIVATE).expect("it is tried again");
        pauses.push((next - now).as_secs_f64());
        assert!(picked(&mut relays, PRIVATE, now, &[]).is_empty());
        now = next;
    }
    for (pause, most) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        let most = f64::from(most);
        assert!((most * 0.75..=most).contains(pause), "{pauses:?}");
    }
    assert!(relays.is_settled());
    for failure in [Failure::Refused, Failure::Other] {
        assert_eq!(picked(&mut relays, PRIVATE, now, &[]), peers);
        relays.failed(&peers[0], failure, now);
        let next = relays.next(PRIVATE).expect("it is tried again");
        assert!((seconds(45)..=seconds(60)).contains(&(next - now)));
        now = next;
    }
    // It was lost after a success: soon again.
    assert_eq!(picked(&mut relays, PRIVATE, now, &[]), peers);
    relays.succeeded(&peers[0], granted(3600), now);
    assert!(relays.lost(&peers[0], now));
    assert!(!relays.lost(&peers[0], now));
    let next = relays.next(PRIVATE).expect("it is tried again");
    assert!(next - now <= seconds(2));
}

#[test]
fn found_relays_are_asked_when_there_is_a_choice_or_after_five_seconds() {
    let peers = random(5);
    let (mut relays, now) = trusting(&[], true);
    assert!(relays.is_settled());
    assert!(relays.found(peers[0], now) && !relays.found(peers[0], now));
    assert!(picked(&mut relays, PRIVATE, now, &[]).is_empty());
    assert_eq!(relays.next(PRIVATE), Some(now + WAIT));
    for peer in &peers[1..] {
        relays.found(*peer, now);
    }
    assert!(picked(&mut relays, Reach::Unknown, now, &[]).is_empty());
    assert_eq!(relays.next(PRIVATE), Some(now));
    let best = [peers[3], peers[1]];
    assert_eq!(picked(&mut relays, PRIVATE, now, &best), best);
    assert_eq!(relays.next(PRIVATE), None, "both are being asked");
    relays.succeeded(&peers[3], granted(3600), now);
    relays.failed(&peers[1], Failure::Refused, now);
    // Another one, after a moment.
    assert_eq!(relays.next(PRIVATE), Some(now + NEXT_PAUSE));
    let now = now + NEXT_PAUSE;
    assert_eq!(picked(&mut relays, PRIVATE, now, &[peers[4]]), [peers[4]]);
    // The one that has refused is left alone for ten minutes.
    assert!(!relays.found(peers[1], now + REFUSED_PAUSE - seconds(2)));
    let (mut one, now) = trusting(&[], true);
    one.found(peers[0], now);
    let now = now + WAIT;
    assert_eq!(picked(&mut one, PRIVATE, now, &[]), [peers[0]]);
}

#[test]
fn trusted_relays_come_before_found_ones() {
    let trusted = random(1);
    let found = random(6);
    let (mut relays, now) = trusting(&trusted, true);
    for peer in &found {
        relays.found(*peer, now);
    }
    let asked = picked(&mut relays, PRIVATE, now, &[]);
    assert_eq!((asked.len(), asked[0]), (2, trusted[0]));
    relays.failed(&trusted[0], Failure::Other, now);
    relays.succeeded(&asked[1], granted(3600), now);
    // A found one takes its place meanwhile.
    assert_eq!(picked(&mut relays, PRIVATE, now, &[]).len(), 1);
}

#[test]
fn candidates_and_those_that_failed_are_bounded() {
    let (mut relays, mut now) = trusting(&[], true);
    for _ in 0..1000 {
        relays.found(PeerId::random(), now);
    }
    assert_eq!(relays.candidates(), MAX_CANDIDATES);
    let mut tried = 0;
    for _ in 0..1000 {
        for peer in picked(&mut relays, PRIVATE, now, &[]) {
            tried += 1;
            relays.failed(&peer, Failure::Other, now);
            // Somebody makes new ones as fast as they fail.
            relays.found(PeerId::random(), now);
        }
        assert!(relays.candidates() <= MAX_CANDIDATES);
        assert!(relays.shunned.len() <= MAX_SHUNNED);
        now += seconds(1);
    }
    assert!(tried <= 2 * 1000, "{tried} asked in 1000 s");
    assert_eq!(relays.shunned.len(), MAX_SHUNNED);
    relays.expire(now + FAILED_PAUSE);
    assert!(relays.shunned.is_empty());
    assert_eq!(relays.candidates(), 0, "they are old");
    assert_eq!(relays.added, relays.removed);
}

#[test]
fn a_place_is_asked_for_anew_before_it_is_over() {
    let peers = random(1);
    for (lifetime, refresh) in [(3600, 2700), (600, 450), (240, 120), (60, 30), (10, 5)] {
        let (mut relays, now) = trusting(&peers, false);
        picked(&mut relays, PRIVATE, now, &[]);
        relays.succeeded(&peers[0], granted(lifetime), now);
        let due = now + seconds(refresh);
        assert_eq!(relays.next(PRIVATE), Some(due), "{lifetime}");
        // Also while it is not known who can dial this node, but not while all can.
        assert_eq!(relays.next(Reach::Unknown), Some(due));
        let over = now + seconds(lifetime);
        assert_eq!(relays.next(Reach::Public), Some(over));
        let tries = relays.pick(PRIVATE, due, |_| 0);
        assert!(tries.len() == 1 && tries[0].renews);
        assert!(!relays.failed(&peers[0], Failure::Other, due));
        assert_eq!(relays.held().len(), 1, "it holds until it is over");
        assert_eq!(relays.expire(over), peers);
        assert!(relays.lost(&peers[0], over));
        assert_eq!(relays.held().len(), 0);
    }
    let (mut relays, now) = trusting(&peers, false);
    picked(&mut relays, PRIVATE, now, &[]);
    relays.succeeded(&peers[0], granted(3600), now);
    relays.pick(PRIVATE, now + seconds(2700), |_| 0);
    assert!(
        relays.failed(&peers[0], Failure::Refused, now),
        "the place is lost"
    );
}

#[test]
fn a_found_relay_that_is_lost_is_wanted_back_for_half_an_hour() {
    let peers = random(1);
    let (mut relays, now) = trusting(&[], true);
    relays.found(peers[0], now);
    let mut now = now + WAIT;
    assert_eq!(picked(&mut relays, PRIVATE, now, &[]), peers);
    relays.succeeded(&peers[0], granted(3600), now);
    relays.lost(&peers[0], now);
    relays.unfit(&peers[0]);
    let lost = now;
    let mut tried = 0;
    while let Some(next) = relays.next(PRIVATE) {
        assert!(next - now <= MAX_PAUSE);
        now = next;
        relays.expire(now);
        for peer in picked(&mut relays, PRIVATE, now, &[]) {
            tried += 1;
            relays.failed(&peer, Failure::Other, now);
        }
    }
    assert!((20..100).contains(&tried), "{tried}");
    assert!(now - lost <= MAX_AGE + MAX_PAUSE);
}
