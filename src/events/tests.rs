use std::sync::Arc;

use super::{
    Event, Events, Followed, Follower, Kind, Kinds, Reachability,
    log::{MAX_BYTES, MAX_EVENTS},
};

fn topic(number: usize) -> Event {
    Event::TopicJoined {
        peer: None,
        topic: number.to_string().as_bytes().into(),
    }
}

fn reach() -> Event {
    Event::Reachability(Reachability::Public)
}

fn kinds(list: &[Kind]) -> Kinds {
    list.iter()
        .fold(Kinds::default(), |kinds, kind| kinds.with(*kind))
}

/// What the follower is told now, in words.
fn told(follower: &mut Follower) -> Vec<String> {
    std::iter::from_fn(|| follower.try_next())
        .map(|told| match told {
            Followed::Missed { count, .. } => format!("missed {count}"),
            Followed::Present(entry) => format!("present {:?}", entry.event.kind()),
            Followed::Event(entry) => match &entry.event {
                Event::TopicJoined { topic, .. } => String::from_utf8_lossy(topic).into_owned(),
                event => format!("{:?}", event.kind()),
            },
        })
        .collect()
}

fn add(events: &Events, event: Event) {
    events.tell(event.kind(), || event);
}

#[test]
fn each_gets_the_kinds_that_it_wants_from_its_beginning_on() {
    let events = Events::default();
    add(&events, topic(0));
    let mut all = events.follow(Kinds::ALL);
    add(&events, topic(1));
    let mut one = events.follow(kinds(&[Kind::TopicJoined]));
    one.begin_with([topic(7), reach()]);
    add(&events, reach());
    add(&events, topic(2));
    assert_eq!(told(&mut all), ["1", "Reachability", "2"]);
    assert_eq!(told(&mut one), ["present TopicJoined", "2"]);
    assert!(told(&mut all).is_empty());
}

#[test]
fn whoever_is_overtaken_is_told_how_much_of_what_it_wants_is_gone() {
    let events = Events::default();
    let mut topics = events.follow(kinds(&[Kind::TopicJoined]));
    let mut reaches = events.follow(kinds(&[Kind::Reachability]));
    for number in 0..MAX_EVENTS {
        add(&events, topic(number));
    }
    add(&events, reach());
    add(&events, topic(MAX_EVENTS));
    let told_topics = told(&mut topics);
    assert_eq!(told_topics[..2], ["missed 2", "2"]);
    assert_eq!(told_topics.len(), MAX_EVENTS);
    assert_eq!(
        told(&mut reaches),
        ["Reachability"],
        "none of these is gone"
    );
    for number in 0..=MAX_EVENTS {
        add(&events, topic(number));
    }
    assert_eq!(told(&mut topics)[..2], ["missed 1", "1"]);
    add(&events, reach());
    assert_eq!(told(&mut reaches), ["Reachability"]);
}

#[test]
fn large_events_make_each_other_go() {
    let events = Events::default();
    let mut follower = events.follow(Kinds::ALL);
    let large: Arc<[u8]> = "x".repeat(MAX_BYTES / 4).as_bytes().into();
    for _ in 0..10 {
        add(
            &events,
            Event::TopicLeft {
                peer: None,
                topic: large.clone(),
            },
        );
    }
    assert_eq!(told(&mut follower)[0], "missed 7");
}

#[test]
fn nothing_is_recorded_while_nobody_follows_it() {
    let events = Events::default();
    let follower = events.follow(kinds(&[Kind::Limit]));
    assert!(events.wants(Kind::Limit) && !events.wants(Kind::TopicJoined));
    drop(follower);
    assert!(!events.wants(Kind::Limit));
    let mut later = events.follow(Kinds::ALL);
    assert!(told(&mut later).is_empty());
}

#[tokio::test]
async fn whoever_waits_is_woken_by_what_it_wants_alone() {
    let events = Events::default();
    let mut follower = events.follow(kinds(&[Kind::Reachability]));
    let mut next = boxed(&mut follower);
    assert!(futures::poll!(&mut next).is_pending());
    add(&events, topic(1));
    assert!(futures::poll!(&mut next).is_pending());
    add(&events, reach());
    assert!(futures::poll!(&mut next).is_ready());
}

fn boxed(follower: &mut Follower) -> std::pin::Pin<Box<dyn Future<Output = Followed> + '_>> {
    Box::pin(follower.next())
}
