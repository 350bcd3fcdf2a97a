//! Messages between rp2pd and the other daemons, both ways, with both routers.

use libp2p::PeerId;
use libtest_mimic::Trial;
use rp2pd::wire::pb::ps_request::Type;

use super::install;
use super::suite::trial;
use crate::support::{Daemon, Launch, PATIENCE, eventually, payload};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
const ROUTERS: [&str; 2] = ["gossipsub", "floodsub"];
/// Payloads: small, of many reads, and nearly as large as may be.
const SIZES: [usize; 3] = [1, 100_000, 1_000_000];

type Peer = fn() -> Result<Launch, String>;

pub fn own() -> Vec<Trial> {
    trials("pubsub_rp2pd", || Ok(Launch::new()))
}

pub fn go() -> Vec<Trial> {
    trials("pubsub_go_v0_9_2", || {
        Ok(Launch::new().binary(install::GO.as_ref()?.join("p2pd")))
    })
}

pub fn hivemind() -> Vec<Trial> {
    trials("pubsub_hivemind", || {
        Ok(Launch::new().binary(install::HIVEMIND_P2PD.as_ref()?.join("p2pd")))
    })
}

pub fn js() -> Vec<Trial> {
    trials("pubsub_js", || {
        let script = install::JS.as_ref()?.join("server.mjs");
        Ok(Launch::new().binary("node").script(script))
    })
}

fn trials(suite: &'static str, peer: Peer) -> Vec<Trial> {
    let mut trials = Vec::new();
    for ours in ROUTERS {
        for theirs in ROUTERS {
            for own_dials in [true, false] {
                let dials = if own_dials { "rp2pd" } else { "peer" };
                let name = format!("{ours}_with_{theirs}_{dials}_dials");
                trials.push(trial(suite, &name, move || {
                    messages(peer, ours, theirs, own_dials)
                }));
            }
        }
    }
    trials.push(trial(suite, "through_rp2pd", move || through_rp2pd(peer)));
    // JavaScript's strings are text.
    if suite != "pubsub_js" {
        trials.push(trial(suite, "topics_of_any_bytes", move || any_bytes(peer)));
    }
    trials.push(trial(suite, "right_after_a_subscribe", move || {
        at_once(peer)
    }));
    trials.push(trial(suite, "hundreds_of_topics", move || {
        many_topics(peer)
    }));
    trials
}

fn start(launch: Launch, router: &str) -> Result<Daemon, String> {
    launch
        .args([
            LISTEN,
            "-pubsub",
            "-tls=false",
            &format!("-pubsubRouter={router}"),
        ])
        .try_spawn()
}

/// Names that are not UTF-8, and differ only where a lossy reading would not.
fn any_bytes(peer: Peer) -> Result<(), String> {
    const TOPICS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
    let (own, other) = (
        start(Launch::new(), "gossipsub")?,
        start(peer()?, "gossipsub")?,
    );
    own.client().connect_to(other.peer_id(), other.addrs())?;
    for (a, b) in [(&own, &other), (&other, &own)] {
        for topic in TOPICS {
            let mut subscription = a.client().subscribe(topic)?;
            let known = || {
                let peers = b.client().topic_peers(topic);
                peers.is_ok_and(|peers| peers.contains(&a.peer_id()))
            };
            if !eventually(PATIENCE, known) {
                return Err(format!("{topic:?} is unknown"));
            }
            let listed = a.client().pubsub(Type::GetTopics, None, None)?;
            let listed = listed.map(|answer| answer.topics).unwrap_or_default();
            if listed != [topic] {
                return Err(format!("{listed:?} instead of {topic:?}"));
            }
            b.client().publish(topic, topic)?;
            let message = subscription.next();
            if message.data.as_deref() != Some(topic) || message.topic_i_ds != [topic] {
                return Err(format!("{topic:?}: {message:?}"));
            }
            drop(subscription);
            let gone = || a.client().pubsub(Type::GetTopics, None, None);
            let gone = || gone().is_ok_and(|answer| answer.is_none_or(|a| a.topics.is_empty()));
            if !eventually(PATIENCE, gone) {
                return Err(format!("{topic:?} is still subscribed to"));
            }
        }
    }
    Ok(())
}

fn knows(daemon: &Daemon, peer: PeerId, topic: &str) -> Result<(), String> {
    let known = || {
        let peers = daemon.client().topic_peers(topic);
        peers.is_ok_and(|peers| peers.contains(&peer))
    };
    if eventually(PATIENCE, known) {
        return Ok(());
    }
    Err("no word of the subscription".into())
}

/// Messages of both sides, at both sides, as their author made them.
fn messages(peer: Peer, ours: &str, theirs: &str, own_dials: bool) -> Result<(), String> {
    let own = start(Launch::new(), ours)?;
    let other = start(peer()?, theirs)?;
    let (dialer, listener) = if own_dials {
        (&own, &other)
    } else {
        (&other, &own)
    };
    dialer
        .client()
        .connect_to(listener.peer_id(), listener.addrs())?;
    let mut at_own = own.client().subscribe("topic")?;
    let mut at_other = other.client().subscribe("topic")?;
    knows(&own, other.peer_id(), "topic")?;
    knows(&other, own.peer_id(), "topic")?;
    for (index, size) in SIZES.into_iter().enumerate() {
        for author in [&own, &other] {
            let data = payload(size, index as u64);
            author.client().publish("topic", &data)?;
            let (near, far) = (at_own.next(), at_other.next());
            for message in [&near, &far] {
                assert!(message.data.as_ref().is_some_and(|got| got[..] == data));
                let from = message.from.as_ref().map(|id| id.to_vec());
                assert_eq!(from, Some(author.peer_id().to_bytes()));
                assert_eq!(message.topic_i_ds, ["topic"]);
            }
            assert_eq!(near.seqno, far.seqno);
            assert_eq!(near.signature, far.signature);
            assert!(near.signature.is_some());
        }
    }
    let mut subscribers = other.client().topic_peers("topic")?;
    subscribers.sort_unstable();
    assert_eq!(subscribers, [own.peer_id()]);
    drop(at_own);
    let gone = || other.client().topic_peers("topic") == Ok(vec![]);
    assert!(eventually(PATIENCE, gone), "the peer still lists rp2pd");
    Ok(())
}

/// rp2pd between two of them passes on what they signed.
fn through_rp2pd(peer: Peer) -> Result<(), String> {
    let own = start(Launch::new(), "gossipsub")?;
    let (first, last) = (start(peer()?, "gossipsub")?, start(peer()?, "gossipsub")?);
    first.client().connect_to(own.peer_id(), own.addrs())?;
    own.client().connect_to(last.peer_id(), last.addrs())?;
    let _middle = own.client().subscribe("topic")?;
    let mut end = last.client().subscribe("topic")?;
    knows(&first, own.peer_id(), "topic")?;
    knows(&own, last.peer_id(), "topic")?;
    knows(&last, own.peer_id(), "topic")?;
    for number in 0..20_u8 {
        first.client().publish("topic", &[number])?;
        assert_eq!(end.next_data(), [number]);
    }
    Ok(())
}

/// The peer publishes when rp2pd's SUBSCRIBE has been answered, and the other way round.
fn at_once(peer: Peer) -> Result<(), String> {
    let own = start(Launch::new(), "gossipsub")?;
    let other = start(peer()?, "gossipsub")?;
    own.client().connect_to(other.peer_id(), other.addrs())?;
    // The first announcement waits until a stream for it is there.
    let _first = own.client().subscribe("first")?;
    let _theirs = other.client().subscribe("first")?;
    knows(&other, own.peer_id(), "first")?;
    knows(&own, other.peer_id(), "first")?;
    for round in 0..10 {
        let topic = format!("topic {round}");
        let mut subscription = other.client().subscribe(&topic)?;
        own.client().publish(&topic, b"at once")?;
        assert_eq!(subscription.next_data(), b"at once", "round {round}");
    }
    Ok(())
}

/// More topics than the library takes by default, told in one RPC.
fn many_topics(peer: Peer) -> Result<(), String> {
    let own = start(Launch::new(), "gossipsub")?;
    let other = start(peer()?, "gossipsub")?;
    let topics: Vec<_> = (0..200).map(|n| format!("{n:0100}")).collect();
    let subscribe = |daemon: &Daemon| -> Result<Vec<_>, String> {
        let topics = topics.iter();
        topics
            .map(|topic| daemon.client().subscribe(topic))
            .collect()
    };
    let (_ours, _theirs) = (subscribe(&own)?, subscribe(&other)?);
    own.client().connect_to(other.peer_id(), other.addrs())?;
    for topic in [&topics[0], &topics[199]] {
        knows(&own, other.peer_id(), topic)?;
        knows(&other, own.peer_id(), topic)?;
    }
    Ok(())
}
