//! Subscribers and peers that do not read cost themselves.

use std::time::{Duration, Instant};

use super::*;

const LEN: usize = 16 << 10;

#[test]
fn slow_subscribers_lose_messages_and_hold_up_nobody() {
    let (a, b) = (node(&[]), node(&[]));
    a.connect_to(&b);
    // They are subscribed and never read.
    let stuck: Vec<_> = (0..50).map(|_| b.subscribe("t")).collect();
    let mut reader = b.subscribe("t");
    await_peer(&a, &b, "t");
    let mut client = a.client();
    let mut round = |messages: u32, reader: &mut support::pubsub::Subscription| {
        for number in 0..messages {
            let mut data = support::payload(LEN, number.into());
            data[..4].copy_from_slice(&number.to_be_bytes());
            client.publish("t", &data).expect("PUBLISH");
            assert!(reader.next_data() == data, "message {number}");
        }
    };
    round(600, &mut reader);
    let before = (a.rss_kib(), b.rss_kib());
    let started = Instant::now();
    round(2000, &mut reader);
    println!("2000 messages in {:?}", started.elapsed());
    for (daemon, before) in [(&a, before.0), (&b, before.1)] {
        let grown = daemon.rss_kib().saturating_sub(before);
        println!("RSS {} KiB, grew by {grown} KiB", daemon.rss_kib());
        assert!(grown < 32 << 10, "RSS grew by {grown} KiB");
    }
    b.signal(rustix::process::Signal::USR1);
    let lost = || {
        let told = b.stderr();
        let (_, rest) = told.split_once("lost by slow subscribers: ")?;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    assert!(eventually(PATIENCE, || lost().is_some()), "a report");
    let lost = lost().expect("a report");
    // What the socket and the queue of each took, they still get.
    assert!(lost > 50 * 2000 && lost < 50 * 2600, "{lost}");
    for mut subscription in stuck {
        assert_eq!(subscription.next_data().len(), LEN);
    }
}

#[test]
fn losses_are_logged_once_and_when_the_subscriber_leaves() {
    let daemon = support::Launch::new()
        .args(["-pubsub"])
        .env("GOLOG_LOG_LEVEL", "warn")
        .spawn();
    let stuck = daemon.subscribe("t");
    let mut client = daemon.client();
    for number in 0..1000_u32 {
        let data = support::payload(LEN, number.into());
        client.publish("t", &data).expect("PUBLISH");
    }
    let lines = |text: &str| daemon.stderr().matches(text).count();
    assert!(eventually(PATIENCE, || lines(
        "a slow subscriber loses messages"
    ) == 1));
    drop(stuck);
    assert!(eventually(PATIENCE, || lines("a slow subscriber has left") == 1));
    assert_eq!(lines("a slow subscriber loses messages"), 1);
}

#[test]
fn a_peer_that_does_not_read_holds_up_nobody() {
    let (a, b) = (node(&[]), node(&[]));
    a.connect_to(&b);
    let mut reader = b.subscribe("t");
    await_peer(&a, &b, "t");
    let mut stuck = support::rpc::Peer::of(&a);
    stuck.say(&support::rpc::subscription(true, b"t"));
    await_peer(&a, &stuck.daemon, "t");
    let mut client = a.client();
    let before = a.rss_kib();
    let mut slowest = Duration::ZERO;
    for number in 0..3000_u32 {
        let data = support::payload(LEN, number.into());
        let started = Instant::now();
        client.publish("t", &data).expect("PUBLISH");
        assert!(reader.next_data() == data, "message {number}");
        slowest = slowest.max(started.elapsed());
    }
    let grown = a.rss_kib().saturating_sub(before);
    println!("slowest {slowest:?}, RSS grew by {grown} KiB");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(grown < 64 << 10, "RSS grew by {grown} KiB");
}

#[test]
fn only_a_peer_that_does_not_read_delays_a_publish_for_a_moment() {
    let a = node(&[]);
    let mut own = a.subscribe("t");
    let mut stuck = support::rpc::Peer::of(&a);
    stuck.say(&support::rpc::subscription(true, b"t"));
    await_peer(&a, &stuck.daemon, "t");
    let mut client = a.client();
    let data = support::payload(LEN, 1);
    let congested = eventually(PATIENCE, || {
        let started = Instant::now();
        client.publish("t", &data).expect("PUBLISH");
        assert!(own.next_data() == data);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        took > Duration::from_millis(500)
    });
    assert!(congested, "the queue never filled");
    // Other topics are not concerned.
    let started = Instant::now();
    let mut other = a.subscribe("u");
    client.publish("u", b"data").expect("PUBLISH");
    assert_eq!(other.next_data(), b"data");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}
