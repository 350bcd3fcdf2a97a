use libp2p::Multiaddr;

use super::*;
use crate::memory::{Account, Ledger};
use crate::node::limits::{source::Classes, values::ConnectionLimits};

const ROOM: Room = Room {
    pending: 16,
    inbound: 100,
    beside_outbound: usize::MAX,
};

struct Scene {
    state: State,
    classes: Classes,
    account: Arc<Account>,
    room: Room,
}

impl Scene {
    /// Rates are another matter.
    fn new() -> Self {
        let mut limits = ConnectionLimits::scaled(0, 0);
        limits.per_address.burst = 0;
        Self::with(&limits)
    }

    fn with(limits: &ConnectionLimits) -> Self {
        Self {
            state: State::default(),
            classes: Classes::new(limits, Vec::new()),
            account: Ledger::new(0).client(),
            room: ROOM,
        }
    }

    fn admit(&mut self, remote: &str) -> Result<Admitted, Reason> {
        let remote: Multiaddr = remote.parse().unwrap();
        let source = self.classes.source(&remote, |_| false);
        let account = &self.account;
        self.state
            .admit(source, self.room, Instant::now(), || account.charge(1).ok())
    }

    fn place(&mut self, remote: &str) -> Place {
        self.admit(remote).unwrap().place
    }

    fn establish(&mut self, remote: &str) -> Place {
        let place = self.place(remote);
        assert!(self.state.establish(place.id, Instant::now()));
        place
    }
}

#[test]
fn established_connections_of_a_prefix_stay_and_its_handshakes_give_way() {
    let mut scene = Scene::new();
    let remote = "/ip4/1.2.3.4/tcp/1";
    let old: Vec<_> = (0..6).map(|_| scene.establish(remote)).collect();
    let (first, second) = (scene.place(remote), scene.place(remote));
    first.moved.store(5, Relaxed);
    let third = scene.admit(remote).unwrap();
    assert!(third.gave_way == 0 && third.full.is_some());
    let third = third.place;
    assert!(second.over.is_cancelled() && !first.over.is_cancelled());
    // It may not come back.
    assert!(!scene.state.establish(second.id, Instant::now()));
    scene.state.abandon(second.id);
    assert!(
        scene.state.establish(first.id, Instant::now())
            && scene.state.establish(third.id, Instant::now())
    );
    assert!(matches!(scene.admit(remote), Err(Reason::Count(_))));
    scene.state.close(old[0].source);
    assert!(scene.admit(remote).is_ok());
}

#[test]
fn customers_of_a_site_have_its_places_together() {
    let mut scene = Scene::new();
    scene.room.pending = 1000;
    let customer = |n: usize| format!("/ip6/2001:db8:0:{:x}::1/tcp/1", n << 8);
    for n in 0..8 {
        (0..8).for_each(|_| drop(scene.establish(&customer(n))));
        assert!(matches!(scene.admit(&customer(n)), Err(Reason::Count(_))));
    }
    let Err(Reason::Count(level)) = scene.admit(&customer(9)) else {
        panic!("the site has 64");
    };
    assert_eq!(level.prefix.to_string(), "2001:db8::/48");
    assert!(scene.admit("/ip6/2001:db8:1::1/tcp/1").is_ok());
}

#[test]
fn when_all_handshakes_are_taken_the_prefix_with_most_loses_one() {
    let mut scene = Scene::new();
    let honest = scene.place("/ip4/9.9.9.9/tcp/1");
    let many: Vec<_> = (0..8).map(|_| scene.place("/ip4/1.1.1.1/tcp/1")).collect();
    let few: Vec<_> = (0..7).map(|_| scene.place("/ip4/2.2.2.2/tcp/1")).collect();
    many.iter().for_each(|one| one.moved.store(7, Relaxed));
    let newcomer = scene.admit("/ip4/3.3.3.3/tcp/1").unwrap();
    assert!(newcomer.gave_way == 1 && newcomer.full.is_none());
    assert!(many[0].over.is_cancelled());
    let cancelled = |places: &[Place]| {
        let over = places.iter().filter(|one| one.over.is_cancelled());
        over.count()
    };
    // From now on both lose.
    for n in 0..8 {
        drop(scene.admit(&format!("/ip4/3.3.4.{n}/tcp/1")).unwrap());
    }
    assert_eq!((cancelled(&many), cancelled(&few)), (5, 4));
    assert!(!honest.over.is_cancelled());
}

#[test]
fn loopback_has_no_limit_but_those_of_all() {
    let mut scene = Scene::new();
    let remote = "/ip4/127.0.0.1/tcp/1";
    let places: Vec<_> = (0..16).map(|_| scene.place(remote)).collect();
    places[0].moved.store(1, Relaxed);
    assert_eq!(scene.admit(remote).unwrap().gave_way, 1);
    assert!(places[1].over.is_cancelled() && !places[0].over.is_cancelled());
    for place in &places[2..] {
        assert!(scene.state.establish(place.id, Instant::now()));
    }
    scene.room.inbound = 14;
    assert_eq!(scene.admit(remote).unwrap_err(), Reason::Inbound);
    scene.room = ROOM;
    scene.room.beside_outbound = 14;
    assert_eq!(scene.admit(remote).unwrap_err(), Reason::Established);
    // The last place is the newcomer's, not the handshake's.
    scene.room.beside_outbound = 16;
    assert_eq!(scene.admit(remote).unwrap().gave_way, 1);
}

#[test]
fn a_handshake_without_memory_is_refused_and_nothing_stays() {
    let mut scene = Scene::new();
    let limit = usize::try_from(scene.account.limit()).unwrap();
    let all = scene.account.charge(limit).unwrap();
    let remote = "/ip4/1.2.3.4/tcp/1";
    assert_eq!(scene.admit(remote).unwrap_err(), Reason::Memory);
    drop(all);
    // Neighbours give way, and whoever has two, but nobody who has one alone.
    let alone = scene.place("/ip4/1.1.1.1/tcp/1");
    let (first, second) = (
        scene.place("/ip4/2.2.2.2/tcp/1"),
        scene.place("/ip4/2.2.2.2/tcp/1"),
    );
    let rest = scene.account.charge(limit - 3).unwrap();
    let newcomer = scene.admit(remote).unwrap();
    assert!(newcomer.gave_way == 1 && first.over.is_cancelled());
    let newcomer = newcomer.place;
    assert_eq!(scene.admit(remote).unwrap().gave_way, 1);
    assert!(newcomer.over.is_cancelled());
    assert_eq!(
        scene.admit("/ip4/3.3.3.3/tcp/1").unwrap_err(),
        Reason::Memory
    );
    assert!(!alone.over.is_cancelled() && !second.over.is_cancelled());
    drop(rest);
    scene.state = State::default();
    let places: Vec<_> = (0..4).map(|_| scene.place(remote)).collect();
    assert_eq!(scene.account.used(), 4);
    for place in &places[1..] {
        scene.state.abandon(place.id);
    }
    assert!(scene.state.establish(places[0].id, Instant::now()));
    assert_eq!(scene.account.used(), 0);
    scene.state.close(places[0].source);
    assert!(scene.state.counts.is_empty() && scene.state.handshakes.is_empty());
    assert_eq!(scene.state.established, 0);
}

#[test]
fn packets_in_the_name_of_others_use_up_nothing() {
    let mut scene = Scene::with(&ConnectionLimits::scaled(0, 0));
    let quic = "/ip4/1.2.3.4/udp/1/quic-v1";
    for _ in 0..1000 {
        let forged = scene.place(quic);
        scene.state.abandon(forged.id);
    }
    let visit = |scene: &mut Scene, remote| {
        let place = scene.admit(remote)?.place;
        assert!(scene.state.establish(place.id, Instant::now()));
        scene.state.close(place.source);
        Ok(())
    };
    assert_eq!(visit(&mut scene, "/ip4/1.2.3.4/tcp/1"), Ok(()));
    // Whoever is really there has as many as over tcp.
    let visits = (0..100).filter(|_| visit(&mut scene, quic).is_ok());
    assert_eq!(visits.count(), 15);
    assert!(matches!(visit(&mut scene, quic), Err(Reason::Rate(_))));
}
