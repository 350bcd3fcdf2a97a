//! Messages that are published in the same moment as others subscribe.

use std::time::Duration;

use super::*;

/// Rounds of each race.
const ROUNDS: usize = 20;

#[test]
fn a_publish_right_after_a_subscribe_is_not_lost() {
    let (a, b) = (node(&[]), node(&[]));
    a.connect_to(&b);
    for round in 0..ROUNDS {
        let topic = format!("t{round}");
        let mut subscription = b.subscribe(&topic);
        a.publish(&topic, b"at once");
        assert_eq!(subscription.next_data(), b"at once", "round {round}");
    }
}

#[test]
fn nor_over_two_hops() {
    let nodes = [node(&[]), node(&[]), node(&[])];
    nodes[0].connect_to(&nodes[1]);
    nodes[1].connect_to(&nodes[2]);
    for round in 0..ROUNDS {
        let topic = format!("t{round}");
        let mut subscriptions: Vec<_> = nodes.iter().map(|node| node.subscribe(&topic)).collect();
        nodes[0].publish(&topic, b"at once");
        for subscription in &mut subscriptions {
            let message = subscription.next();
            assert_eq!(
                message.from.expect("an author")[..],
                nodes[0].peer_id().to_bytes()
            );
        }
    }
}

#[test]
fn a_subscriber_gets_the_last_second() {
    let (a, b, c) = (node(&[]), node(&[]), node(&[]));
    a.connect_to(&b);
    a.connect_to(&c);
    let mut own = a.subscribe("t");
    // Nobody else is subscribed: the library sends it to nobody.
    a.publish("t", b"unsent");
    let mut first = b.subscribe("t");
    assert_eq!(
        first.next(),
        own.next(),
        "the same message, number and signature"
    );
    a.publish("t", b"sent");
    let sent = own.next();
    assert_eq!(first.next(), sent);
    let mut second = c.subscribe("t");
    let got = [second.next(), second.next()];
    assert!(got.contains(&sent));
    assert!(
        got.iter()
            .any(|message| message.data.as_deref() == Some(b"unsent"))
    );
}

#[test]
fn what_is_older_than_a_second_is_past() {
    let (a, b) = (node(&[]), node(&[]));
    a.connect_to(&b);
    let mut own = a.subscribe("t");
    a.publish("t", b"old");
    let _ = own.next();
    // This is about time itself.
    std::thread::sleep(Duration::from_millis(1100));
    let mut late = b.subscribe("t");
    await_peer(&a, &b, "t");
    a.publish("t", b"new");
    assert_eq!(late.next_data(), b"new");
}

#[test]
fn a_new_connection_brings_what_was_published_just_before() {
    let (a, b) = (node(&[]), node(&[]));
    let mut subscription = b.subscribe("t");
    a.publish("t", b"before");
    a.connect_to(&b);
    assert_eq!(subscription.next_data(), b"before");
}

#[test]
fn both_routers_speak_with_each_other() {
    for (a, b) in [
        ("floodsub", "floodsub"),
        ("floodsub", "gossipsub"),
        ("gossipsub", "floodsub"),
    ] {
        let (a, b) = (
            node(&[&format!("-pubsubRouter={a}")]),
            node(&[&format!("-pubsubRouter={b}")]),
        );
        a.connect_to(&b);
        let (mut near, mut far) = (a.subscribe("t"), b.subscribe("t"));
        await_peer(&a, &b, "t");
        await_peer(&b, &a, "t");
        a.publish("t", b"from a");
        assert_eq!(
            (near.next_data(), far.next_data()),
            (b"from a".into(), b"from a".into())
        );
        b.publish("t", b"from b");
        assert_eq!(
            (near.next_data(), far.next_data()),
            (b"from b".into(), b"from b".into())
        );
    }
}

#[test]
fn a_gossipsub_node_passes_on_between_floodsub_nodes() {
    let nodes = [
        node(&["-pubsubRouter=floodsub"]),
        node(&[]),
        node(&["-pubsubRouter=floodsub"]),
    ];
    nodes[0].connect_to(&nodes[1]);
    nodes[1].connect_to(&nodes[2]);
    let _middle = nodes[1].subscribe("t");
    let mut end = nodes[2].subscribe("t");
    await_peer(&nodes[0], &nodes[1], "t");
    await_peer(&nodes[1], &nodes[2], "t");
    nodes[0].publish("t", b"through");
    assert_eq!(end.next_data(), b"through");
}

#[test]
fn the_heartbeat_is_as_configured() {
    // Grafting after a lost mesh takes a heartbeat; at an hour nothing but the first comes.
    for (interval, delay) in [("50ms", "10ms"), ("1h", "1h")] {
        let flags = [
            format!("-gossipsubHeartbeatInterval={interval}"),
            format!("-gossipsubHeartbeatInitialDelay={delay}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (a, b) = (node(&flags), node(&flags));
        a.connect_to(&b);
        let mut subscription = b.subscribe("t");
        await_peer(&a, &b, "t");
        a.publish("t", b"data");
        assert_eq!(subscription.next_data(), b"data");
    }
}
