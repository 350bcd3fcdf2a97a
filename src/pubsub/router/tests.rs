use std::collections::HashSet;

use libp2p::identity::Keypair;

use super::{
    super::message::{Author, pb},
    members::MAX_PEER_TOPICS,
    mesh::{D, D_HIGH, D_OUT},
    *,
};
use crate::memory::Ledger;

struct Scene {
    router: Arc<Router>,
    ledger: Arc<Ledger>,
    author: Author,
    seqno: u64,
}

impl Scene {
    fn new(flood: bool) -> Self {
        Self {
            router: Arc::new(Router::new(flood, Signing::Strict, Events::default())),
            ledger: Ledger::new(0),
            author: Author::new(&Keypair::generate_ed25519(), false).expect("a key"),
            seqno: 0,
        }
    }

    /// A peer that is subscribed to `t`.
    fn peer(&self, kind: PeerKind, dialed: bool) -> PeerId {
        let peer = PeerId::random();
        self.router
            .new_peer(peer, &self.ledger.client())
            .expect("a new peer");
        self.router.add_peer(peer, kind, dialed);
        self.subscribe(peer, b"t", true);
        peer
    }

    fn subscribe(&self, peer: PeerId, topic: &[u8], subscribe: bool) {
        let change = pb::SubOpts {
            subscribe: Some(subscribe),
            topic_id: Some(topic.to_owned().into()),
        };
        self.router.on_subscription(peer, &change);
    }

    fn control(&self, peer: PeerId, graft: &[&str], prune: &[(&str, u64)]) {
        let graft = graft.iter().map(|topic| pb::Graft {
            topic_id: Some((*topic).to_owned().into()),
        });
        let prune = prune.iter().map(|(topic, backoff)| pb::Prune {
            topic_id: Some((*topic).to_owned().into()),
            backoff: Some(*backoff),
        });
        let control = pb::Control {
            graft: graft.collect(),
            prune: prune.collect(),
            ..pb::Control::default()
        };
        self.router.on_control(peer, &control);
    }

    /// A client subscribes to `t`.
    fn join(&self) {
        let client = self.ledger.client();
        let added = self.router.subscriptions().add(b"t", &client);
        drop(added.expect("joined"));
        self.router.update_subscription(b"t");
    }

    /// All clients unsubscribe.
    fn leave(&self) {
        let subscriptions = self.router.subscriptions();
        for subscriber in subscriptions.subscribers() {
            subscriptions.remove(b"t", &subscriber);
        }
        self.router.update_subscription(b"t");
    }

    fn mesh(&self) -> HashSet<PeerId> {
        let state = self.router.state();
        let topic = state.topics.get(&b"t"[..]);
        topic.map_or_else(HashSet::new, |topic| topic.mesh.clone())
    }

    /// How many peers a message is queued for.
    fn recipients(&mut self, source: Option<PeerId>) -> usize {
        self.seqno += 1;
        let message = self.author.message(&b"t"[..].into(), None, self.seqno);
        let message = message.expect("a message");
        let mut state = self.router.state();
        let flood = self.router.flood;
        state
            .recipients(&message, source, flood, Instant::now())
            .len()
    }
}

#[test]
fn a_mesh_is_filled_up_and_cut() {
    let scene = Scene::new(false);
    scene.join();
    let few: Vec<_> = (0..4)
        .map(|_| scene.peer(PeerKind::Gossipsub11, false))
        .collect();
    assert_eq!(scene.mesh().len(), 4, "at once");
    let more: Vec<_> = (0..40)
        .map(|_| scene.peer(PeerKind::Gossipsub11, false))
        .collect();
    scene.router.heartbeat();
    assert!((5..=D).contains(&scene.mesh().len()));
    for peer in few.iter().chain(&more) {
        scene.control(*peer, &["t"], &[]);
    }
    assert_eq!(scene.mesh().len(), D_HIGH - D_OUT, "strangers leave room");
    let dialed = scene.peer(PeerKind::Gossipsub11, true);
    scene.control(dialed, &["t"], &[]);
    assert!(scene.mesh().contains(&dialed), "for those that were dialed");
    let more: Vec<_> = (0..5)
        .map(|_| scene.peer(PeerKind::Gossipsub11, true))
        .collect();
    for peer in &more {
        scene.control(*peer, &["t"], &[]);
    }
    assert_eq!(scene.mesh().len(), D_HIGH - D_OUT + 6);
    scene.router.heartbeat();
    let mesh = scene.mesh();
    assert_eq!(mesh.len(), D);
    let outbound = more
        .iter()
        .chain([&dialed])
        .filter(|peer| mesh.contains(peer));
    assert!(outbound.count() >= D_OUT);
}

#[test]
fn a_subscriber_without_a_stream_yet_gets_what_is_published() {
    for (flood, joined) in [(false, true), (false, false), (true, true)] {
        let mut scene = Scene::new(flood);
        if joined {
            scene.join();
        }
        let peer = PeerId::random();
        let account = scene.ledger.client();
        scene.router.open_inbound(peer, &account);
        assert_eq!(scene.recipients(None), 0, "not subscribed");
        scene.subscribe(peer, b"t", true);
        assert_eq!(scene.recipients(None), 1, "it has opened a stream");
        scene.router.new_peer(peer, &account).expect("a new peer");
        assert_eq!(scene.recipients(None), 1, "it is known by identify");
        scene.router.add_peer(peer, PeerKind::Gossipsub11, false);
        assert_eq!(scene.recipients(None), 1, "it is in the mesh or fanout");
    }
}

#[test]
fn who_was_pruned_stays_out_for_its_time() {
    let scene = Scene::new(false);
    scene.join();
    let peer = scene.peer(PeerKind::Gossipsub11, false);
    assert_eq!(scene.mesh().len(), 1);
    for backoff in [1, u64::MAX, 0] {
        scene.control(peer, &[], &[("t", backoff), ("unknown", backoff)]);
        assert_eq!(scene.mesh().len(), 0);
        scene.router.heartbeat();
        scene.control(peer, &["t", "unknown"], &[]);
        assert_eq!(scene.mesh().len(), 0, "{backoff}");
    }
    assert!(!scene.router.state().topics.contains_key(&b"unknown"[..]));
}

#[test]
fn back_offs_of_all_topics_have_a_bound() {
    let scene = Scene::new(false);
    let client = scene.ledger.client();
    let names: Vec<String> = (0..10).map(|number| format!("topic {number}")).collect();
    for name in &names {
        let added = scene.router.subscriptions().add(name.as_bytes(), &client);
        drop(added.expect("joined"));
        scene.router.update_subscription(name.as_bytes());
    }
    let all: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 60)).collect();
    for _ in 0..3000 {
        let peer = PeerId::random();
        scene.control(peer, &[], &all);
    }
    let state = scene.router.state();
    let held: usize = state.topics.values().map(|topic| topic.backoff.len()).sum();
    assert_eq!((held, state.backoffs), (16_384, 16_384));
    drop(state);
    // One that is there is lengthened.
    let held = |name: &str| scene.router.state().topics[name.as_bytes()].backoff.clone();
    let (peer, until) = held("topic 0").into_iter().next().expect("one");
    scene.control(peer, &[], &[("topic 0", 600)]);
    assert!(held("topic 0")[&peer] > until);
}

#[test]
fn a_topic_without_subscribers_here_has_a_fanout() {
    let mut scene = Scene::new(false);
    assert_eq!(scene.recipients(None), 0);
    assert!(
        scene.router.state().topics.is_empty(),
        "nobody is subscribed"
    );
    for _ in 0..10 {
        scene.peer(PeerKind::Gossipsub10, false);
    }
    let floodsub_peers: Vec<_> = (0..3)
        .map(|_| scene.peer(PeerKind::Floodsub, false))
        .collect();
    assert_eq!(scene.recipients(None), D + 3);
    assert_eq!(scene.recipients(Some(floodsub_peers[0])), D + 2);
    scene.join();
    assert_eq!(scene.mesh().len(), D);
    scene.leave();
    assert_eq!(scene.mesh().len(), 0);
}

#[test]
fn floodsub_sends_to_everybody() {
    let mut scene = Scene::new(true);
    let peers: Vec<_> = (0..30)
        .map(|_| scene.peer(PeerKind::Floodsub, false))
        .collect();
    scene.join();
    assert_eq!(scene.recipients(None), 30);
    assert_eq!(scene.recipients(Some(peers[0])), 29);
    scene.subscribe(peers[1], b"t", false);
    assert_eq!(scene.recipients(None), 29);
}

#[test]
fn nothing_is_left_of_peers_that_have_gone() {
    let scene = Scene::new(false);
    scene.join();
    let peers: Vec<_> = (0..50)
        .map(|index| {
            let kind = [PeerKind::Gossipsub11, PeerKind::Floodsub][index % 2];
            let peer = scene.peer(kind, index % 3 == 0);
            for topic in 0..100 {
                scene.subscribe(peer, format!("{topic}").as_bytes(), true);
            }
            scene.control(peer, &["t", "7"], &[]);
            peer
        })
        .collect();
    for peer in &peers {
        let (first, _) = scene.router.open_inbound(*peer, &scene.ledger.client());
        let (second, _) = scene.router.open_inbound(*peer, &scene.ledger.client());
        scene.router.close_inbound(*peer, first);
        assert!(
            !scene.router.remove_peer(*peer, || true),
            "it has come back"
        );
        assert!(scene.router.remove_peer(*peer, || false));
        assert!(scene.router.state().peers.contains_key(peer), "still heard");
        scene.router.close_inbound(*peer, second);
    }
    scene.leave();
    while scene.router.sweep() {}
    let state = scene.router.state();
    assert_eq!((state.peers.len(), state.members.bytes()), (0, 0));
    assert_eq!(scene.ledger.used(), 0);
    let topics: Vec<_> = state.topics.keys().collect();
    assert!(topics.len() <= 1, "a back-off may be left: {topics:?}");
}

#[test]
fn a_peer_has_no_more_topics_than_it_may() {
    let scene = Scene::new(false);
    let peer = scene.peer(PeerKind::Gossipsub11, false);
    for topic in 0..2 * MAX_PEER_TOPICS {
        scene.subscribe(peer, format!("{topic}").as_bytes(), true);
    }
    let topics = || scene.router.state().members.len();
    assert_eq!(topics(), MAX_PEER_TOPICS);
    scene.subscribe(peer, b"t", false);
    scene.subscribe(peer, "n".repeat(1025).as_bytes(), true);
    assert_eq!(topics(), MAX_PEER_TOPICS - 1);
    assert!(
        scene.router.state().topics.is_empty(),
        "none of them is ours"
    );
}

#[test]
fn a_peer_is_asked_for_what_it_tells_of_within_bounds() {
    let scene = Scene::new(false);
    scene.join();
    let peer = scene.peer(PeerKind::Gossipsub11, false);
    let tell = |topic: &[u8], names: std::ops::Range<u32>| {
        let ihave = pb::IHave {
            topic_id: Some(topic.to_owned().into()),
            message_i_ds: names.map(|n| n.to_be_bytes().to_vec().into()).collect(),
        };
        let control = pb::Control {
            ihave: vec![ihave],
            ..pb::Control::default()
        };
        scene.router.on_control(peer, &control);
        scene.router.state().peers[&peer].used.iwant_sent
    };
    assert_eq!(tell(b"u", 0..10), 0, "nobody is subscribed");
    assert_eq!(tell(b"t", 0..10), 10);
    assert_eq!(tell(b"t", 10..20_000), 5000);
    scene.router.heartbeat();
    let asked: Vec<usize> = (0..20).map(|n| tell(b"t", n..n + 1)).collect();
    assert_eq!(asked.last(), Some(&10), "ten times between two heartbeats");
}

#[test]
fn the_largest_queues_are_given_up_first() {
    let mut scene = Scene::new(true);
    scene.join();
    let peers: Vec<_> = (0..4)
        .map(|_| scene.peer(PeerKind::Floodsub, false))
        .collect();
    for (count, peer) in [0, 1, 5, 10].into_iter().zip(&peers) {
        for _ in 0..count * 10 {
            scene.seqno += 1;
            let message = scene
                .author
                .message(&b"t"[..].into(), Some(&[0; 1000]), scene.seqno);
            let message = Arc::new(message.expect("a message"));
            let queue = scene.router.state().peers[peer].queue.clone();
            scene.router.push(&queue, &message);
        }
    }
    let held = |peer: &PeerId| scene.router.state().peers[peer].queue.bytes();
    let all = peers.iter().map(held).sum::<usize>();
    assert_eq!(scene.router.shed(0), all - held(&peers[1]));
    assert_eq!((held(&peers[2]), held(&peers[3])), (0, 0));
    assert!(scene.router.shed(all) > 0);
    assert!(peers.iter().all(|peer| held(peer) == 0));
}

#[test]
fn who_shares_an_address_with_many_loses_before_a_single_peer() {
    let scene = Scene::new(true);
    let held = |peer: &PeerId| scene.router.state().peers[peer].queue.bytes();
    let peer_at = |address: &str, messages: u64| {
        let peer = PeerId::random();
        let account = scene.ledger.peer(&address.parse().expect("a multiaddr"));
        let queue = scene.router.new_peer(peer, &account).expect("a new peer");
        for seqno in 0..messages {
            let message = scene
                .author
                .message(&b"t"[..].into(), Some(&[0; 1000]), seqno);
            scene
                .router
                .push(&queue, &Arc::new(message.expect("a message")));
        }
        peer
    };
    let many: Vec<_> = (0..10)
        .map(|_| peer_at("/ip4/192.0.2.1/tcp/1", 20))
        .collect();
    let single = peer_at("/ip4/192.0.2.2/tcp/1", 25);
    let before = held(&single);
    assert!(
        many.iter().all(|peer| held(peer) < before),
        "none stands out"
    );
    assert!(scene.router.shed(0) > 0);
    assert!(many.iter().all(|peer| held(peer) == 0));
    assert_eq!(held(&single), before);
}

#[test]
fn peers_that_break_rules_lose_their_place() {
    let scene = Scene::new(false);
    scene.join();
    let peer = scene.peer(PeerKind::Gossipsub11, false);
    assert!(scene.mesh().contains(&peer));
    // A message of another that is not signed by it.
    scene.router.rejected(peer, ValidationError::Unsigned);
    scene.router.heartbeat();
    assert!(scene.mesh().contains(&peer), "a policy is no offence");
    scene.router.rejected(peer, ValidationError::Signature);
    scene.router.heartbeat();
    assert!(!scene.mesh().contains(&peer));
    // GRAFT within the back-off counts twice at first.
    let other = scene.peer(PeerKind::Gossipsub11, false);
    scene.control(other, &[], &[("t", 60)]);
    for _ in 0..8 {
        assert!(!scene.router.is_graylisted(&other));
        scene.control(other, &["t"], &[]);
    }
    assert!(!scene.mesh().contains(&other));
    scene.control(other, &["t"], &[]);
    assert!(scene.router.is_graylisted(&other));
    // A peer of gossipsub 1.0 is never told of a back-off.
    let old = scene.peer(PeerKind::Gossipsub10, false);
    scene.control(old, &[], &[("t", 60)]);
    for _ in 0..20 {
        scene.control(old, &["t"], &[]);
    }
    assert!(!scene.router.is_graylisted(&old) && !scene.mesh().contains(&old));
}

#[test]
fn each_peer_has_its_own_bounds_of_iwant() {
    let mut scene = Scene::new(false);
    scene.join();
    scene.seqno += 1;
    let message = scene.author.message(&b"t"[..].into(), None, scene.seqno);
    let message = Arc::new(message.expect("a message"));
    let id = message.message_id().clone();
    scene
        .router
        .state()
        .mcache
        .add(message, None, Instant::now());
    let greedy = scene.peer(PeerKind::Gossipsub11, false);
    let honest = scene.peer(PeerKind::Gossipsub11, false);
    let ask = |peer: PeerId, ids: Vec<bytes::Bytes>| {
        let iwant = [pb::IWant { message_i_ds: ids }];
        let now = Instant::now();
        scene.router.state().on_iwant(peer, &iwant, now).len()
    };
    assert_eq!(ask(greedy, vec![id.clone(); 10]), 3, "three times the same");
    assert_eq!(ask(greedy, vec![b"unknown"[..].into(); 100_000]), 0);
    assert_eq!(ask(greedy, vec![id.clone()]), 0, "its requests are used up");
    assert_eq!(ask(honest, vec![id.clone()]), 1, "those of others are not");
    scene.router.heartbeat();
    assert_eq!(
        ask(greedy, vec![id.clone()]),
        0,
        "three times in two heartbeats"
    );
    scene.router.heartbeat();
    scene.router.heartbeat();
    assert_eq!(ask(greedy, vec![id]), 1);
}

#[test]
fn promises_of_ihave_that_are_not_kept_are_penalized() {
    let mut promises = super::promises::Promises::default();
    let (peer, now) = (PeerId::random(), Instant::now());
    let id = |n: u8| IdHash::of(&[n]);
    for n in 0..3 {
        promises.add(id(n), peer, now);
    }
    promises.fulfil(id(1));
    assert_eq!(promises.broken(now + Duration::from_secs(9)), []);
    assert_eq!(promises.broken(now + Duration::from_secs(11)), [peer; 2]);
    assert_eq!(promises.broken(now + Duration::from_secs(99)), []);
}
