//! Requests that are none, and too much of them.

use std::time::Instant;

use rp2pd::wire::pb::ps_request::Type;

use super::support::raw;
use super::*;

const MISSING_TOPIC: &str = "Malformed request; missing topic parameter";

/// The ERROR for a PUBSUB request of these bytes.
fn refusal(client: &mut support::ControlClient, body: &[u8]) -> String {
    client
        .send_raw(&raw::frame(&[&raw::int(1, 8), body].concat()))
        .expect("send");
    let answer: rp2pd::wire::pb::Response = client.receive().expect("an answer");
    answer.error.expect("an ERROR").msg
}

#[test]
fn malformed_requests_get_gos_words_and_the_connection_stays() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    assert_eq!(
        refusal(&mut client, &[]),
        "Malformed request; missing parameters"
    );
    for kind in [1, 2, 3] {
        let body = raw::bytes(8, &raw::int(1, kind));
        assert_eq!(refusal(&mut client, &body), MISSING_TOPIC, "type {kind}");
    }
    for kind in [4, 99, -1, i64::MAX] {
        let body = raw::bytes(8, &[raw::int(1, kind), raw::bytes(2, b"t")].concat());
        assert_eq!(refusal(&mut client, &body), "Unexpected request");
    }
    for kind in [Type::ListPeers, Type::Publish, Type::Subscribe] {
        let error = client.pubsub(kind, None, Some(b"data"));
        assert_eq!(error, Err(MISSING_TOPIC.into()));
    }
    assert!(client.topics().is_empty());
}

#[test]
fn a_request_without_a_type_ends_the_connection() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    let body = raw::bytes(8, &raw::bytes(2, b"t"));
    let text = refusal(&mut client, &body);
    assert_eq!(text, "Malformed request; required field type not set");
    assert!(client.pipe.read_frame().is_err(), "closed");
}

#[test]
fn the_largest_message_passes_and_a_larger_one_is_refused() {
    let (a, b) = (node(&[]), node(&[]));
    a.connect_to(&b);
    let mut near = a.subscribe("t");
    let mut far = b.subscribe("t");
    await_peer(&a, &b, "t");
    let mut client = a.client();
    let text = client
        .publish("t", &vec![1; 1 << 20])
        .expect_err("too large");
    let max = text
        .strip_prefix("message of 1048576 bytes: must be at most ")
        .and_then(|rest| rest.strip_suffix(" bytes long on this topic"))
        .and_then(|max| max.parse::<usize>().ok())
        .unwrap_or_else(|| panic!("{text}"));
    assert!(max > (1 << 20) - 300, "{max}");
    client
        .publish("t", &vec![1; max + 1])
        .expect_err("too large");
    let largest = support::payload(max, 1);
    client.publish("t", &largest).expect("PUBLISH");
    assert!(near.next_data() == largest);
    assert!(far.next_data() == largest);
    // What comes after it on the same stream arrives as well.
    client.publish("t", b"small").expect("PUBLISH");
    assert_eq!(
        (near.next_data(), far.next_data()),
        (b"small".into(), b"small".into())
    );
}

#[test]
fn a_frame_of_four_mebibytes_is_refused_and_the_connection_stays() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    // All of the frame: type, topic and the fields around the payload take their share.
    let data = vec![0; (4 << 20) - 32];
    let text = client.publish("t", &data).expect_err("too large");
    assert!(text.starts_with("message of "), "{text}");
    let name = "n".repeat((4 << 20) - 32);
    let text = client.pubsub(Type::Publish, Some(name.as_bytes()), None);
    let text = text.map(drop);
    assert!(text.is_ok() || text.is_err_and(|text| text.starts_with("message of 0 bytes")));
    let text = daemon.client().subscribe(&name).expect_err("too long");
    assert!(text.contains("at most 1024 bytes"), "{text}");
    assert!(client.topic_peers(&name).expect("LIST_PEERS").is_empty());
    assert!(client.topics().is_empty());
}

#[test]
fn ten_thousand_topics_are_served_and_forgotten() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let (a, b) = (node(&[]), node(&[]));
    a.connect_to(&b);
    let wanted = 10_000.min(
        usize::try_from(rlimit::Resource::NOFILE.get_soft().expect("a limit")).expect("fits") - 500,
    );
    let before = a.rss_kib();
    let started = Instant::now();
    let subscriptions: Vec<_> = (0..wanted)
        .map(|n| a.subscribe(format!("topic-{n}")))
        .collect();
    println!("{wanted} topics in {:?}", started.elapsed());
    assert_eq!(a.client().topics().len(), wanted);
    await_peer(&b, &a, &format!("topic-{}", wanted - 1));
    // A peer that comes later is told all of them at once.
    let c = node(&[]);
    c.connect_to(&a);
    for n in [0, wanted / 2, wanted - 1] {
        await_peer(&c, &a, &format!("topic-{n}"));
    }
    drop(subscriptions);
    assert!(eventually(PATIENCE, || a.client().topics().is_empty()));
    let gone = || b.client().topic_peers("topic-0") == Ok(vec![]);
    assert!(eventually(PATIENCE, gone));
    println!("RSS grew by {} KiB", a.rss_kib().saturating_sub(before));
}

#[test]
fn names_that_do_not_fit_one_announcement_are_refused() {
    let daemon = node(&[]);
    let subscriptions: Vec<_> = (0..512)
        .map(|n| daemon.subscribe(format!("{n:01024}")))
        .collect();
    let text = daemon.client().subscribe("one more").expect_err("full");
    assert_eq!(text, "too many topics");
    let known = daemon.client().subscribe(format!("{:01024}", 7));
    assert!(known.is_ok(), "no further name");
    drop(subscriptions);
    let room = || daemon.client().subscribe("one more").is_ok();
    assert!(eventually(PATIENCE, room));
}
