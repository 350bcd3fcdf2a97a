//! One daemon and its clients, two daemons and theirs.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::support::raw;
use super::*;

const QUIET: Duration = Duration::from_millis(300);

#[test]
fn a_subscriber_gets_what_its_own_daemon_publishes() {
    let daemon = node(&[]);
    let mut first = daemon.subscribe("t");
    let mut second = daemon.subscribe("t");
    daemon.publish("t", b"hello");
    let message = first.next();
    assert_eq!(second.next(), message, "every subscriber gets the same");
    let from = daemon.peer_id().to_bytes();
    assert_eq!(message.from.expect("an author"), from);
    assert_eq!(message.data.expect("data"), &b"hello"[..]);
    assert_eq!(message.topic_i_ds, ["t"]);
    let seqno = message.seqno.expect("a number");
    let seqno = u64::from_be_bytes(seqno[..].try_into().expect("8 bytes"));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    let age = now.as_nanos().abs_diff(u128::from(seqno));
    assert!(age < PATIENCE.as_nanos(), "a counter from the start's time");
    assert_eq!(message.signature.expect("a signature").len(), 64);
    assert_eq!(message.key, None, "the peer id contains it");
    daemon.publish("other", b"not for them");
    daemon.publish("t", b"hello");
    let again = first.next();
    assert_eq!(again.data.expect("data"), &b"hello"[..]);
    let again = again.seqno.expect("a number");
    assert!(
        again[..] > seqno.to_be_bytes()[..],
        "equal data, new number"
    );
}

#[test]
fn messages_arrive_as_the_author_made_them() {
    for kind in ["ed25519", "rsa", "secp256k1", "ecdsa"] {
        let keys = tempfile::tempdir().expect("a directory");
        let key = keys.path().join("key");
        let made = std::process::Command::new(support::daemon::binary_under_test())
            .args(["keygen", "-t", kind, "-f"])
            .arg(&key)
            .output()
            .expect("keygen");
        assert!(made.status.success(), "{made:?}");
        let (a, b) = (node(&["-id", key.to_str().expect("UTF-8")]), node(&[]));
        let (mut near, mut far) = (a.subscribe("t"), b.subscribe("t"));
        a.connect_to(&b);
        await_peer(&a, &b, "t");
        for round in 0..3 {
            a.publish("t", &[round; 100]);
            let (own, others) = (near.next(), far.next());
            assert_eq!(own, others, "{kind}");
            signing::assert_signed(&own, a.peer_id());
        }
    }
}

/// Ends the subscription, whoever else holds its socket.
fn leave(subscription: support::pubsub::Subscription) {
    let socket = &subscription.client.pipe.socket;
    socket.shutdown_write().expect("half-close");
}

#[test]
fn topics_are_listed_until_their_last_subscriber_leaves() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    assert!(client.topics().is_empty());
    let first = daemon.subscribe("a");
    let second = daemon.subscribe("a");
    let third = daemon.subscribe("");
    daemon.publish("b", b"publishing is no subscription");
    assert_eq!(client.topics(), ["", "a"]);
    leave(first);
    assert_eq!(client.topics(), ["", "a"]);
    leave(second);
    assert_eq!(client.topics(), [""]);
    leave(third);
    assert!(client.topics().is_empty());
}

#[test]
fn leaving_is_felt_at_once() {
    let tcp = support::Launch::new().tcp().args(["-pubsub"]).spawn();
    let unix = node(&[]);
    let mut client = unix.client();
    for round in 0..200 {
        let subscription = unix.subscribe("t");
        assert_eq!(client.topics(), ["t"]);
        leave(subscription);
        assert!(client.topics().is_empty(), "round {round}");
    }
    // A process that another test starts at this moment holds a closed socket open until it
    // runs its program; and the kernel may carry a request past the end of another tcp
    // connection.
    for daemon in [&tcp, &unix] {
        for round in 0..50 {
            drop(daemon.subscribe("t"));
            let felt = eventually(PATIENCE, || daemon.client().topics().is_empty());
            assert!(felt, "round {round}");
        }
    }
    let fds = unix.fds();
    let subscriptions: Vec<_> = (0..50).map(|_| unix.subscribe("t")).collect();
    drop(subscriptions);
    assert!(eventually(PATIENCE, || unix.fds() <= fds), "descriptors");
}

#[test]
fn what_a_subscriber_sends_is_ignored_until_it_is_no_request() {
    let daemon = node(&[]);
    let mut subscription = daemon.subscribe("t");
    let client = &mut subscription.client;
    client.send_raw(&raw::frame(&raw::int(1, 0))).expect("send");
    client.send_raw(&[0x80]).expect("send");
    daemon.publish("t", b"still there");
    assert_eq!(subscription.next_data(), b"still there");
    let client = &mut subscription.client;
    // The length that began goes on: a frame of 128 bytes that are no request.
    client.send_raw(&[0x01]).expect("send");
    client.send_raw(&[0xff; 128]).expect("send");
    let ended = subscription.within(PATIENCE).expect_err("an end");
    assert_eq!(ended.kind(), ErrorKind::UnexpectedEof);
    assert!(daemon.client().topics().is_empty());
}

#[test]
fn requests_that_come_with_the_subscription_are_ignored() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    let subscribe = [raw::int(1, 3), raw::bytes(2, b"t")].concat();
    let subscribe = [raw::int(1, 8), raw::bytes(8, &subscribe)].concat();
    let identify = raw::frame(&raw::int(1, 0));
    let together = [raw::frame(&subscribe), identify].concat();
    client.send_raw(&together).expect("send");
    assert_eq!(client.pipe.read_frame().expect("an answer")[..], [8, 0]);
    daemon.publish("t", b"data");
    let mut subscription = support::pubsub::Subscription { client };
    assert_eq!(subscription.next_data(), b"data");
}

#[test]
fn publishing_needs_neither_peers_nor_data_nor_a_name() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    client.publish("t", b"data").expect("no peers");
    client.publish("", b"").expect("no name");
    let mut subscription = daemon.subscribe("");
    use rp2pd::wire::pb::ps_request::Type::Publish;
    client.pubsub(Publish, Some(b""), None).expect("no data");
    assert_eq!(subscription.next().data, None, "absent as it was sent");
    client.publish("", b"").expect("empty data");
    assert_eq!(subscription.next().data.as_deref(), Some(&b""[..]));
}

#[test]
fn an_empty_list_of_topics_has_its_part() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    let get_topics = [raw::int(1, 8), raw::bytes(8, &raw::int(1, 0))].concat();
    client.send_raw(&raw::frame(&get_topics)).expect("send");
    let answer = client.pipe.read_frame().expect("an answer");
    assert_eq!(answer[..], [8, 0, 0x3a, 0]);
}

#[test]
fn peers_are_listed_by_topic() {
    let (a, b, c) = (node(&[]), node(&[]), node(&[]));
    let none = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    for peer in [&b, &c, &none] {
        a.connect_to(peer);
    }
    let subscription = b.subscribe("t");
    let _own = a.subscribe("t");
    await_peer(&a, &b, "t");
    let mut client = a.client();
    assert_eq!(client.topic_peers("t"), Ok(vec![b.peer_id()]));
    assert_eq!(client.topic_peers("u"), Ok(vec![]));
    let both = BTreeSet::from([b.peer_id(), c.peer_id()]);
    let all = |client: &mut support::ControlClient| -> BTreeSet<_> {
        let peers = client.topic_peers("").expect("LIST_PEERS");
        peers.into_iter().collect()
    };
    assert!(
        eventually(PATIENCE, || all(&mut client) == both),
        "{:?} for {both:?}",
        all(&mut client)
    );
    drop(subscription);
    let gone = || a.client().topic_peers("t") == Ok(vec![]);
    assert!(eventually(PATIENCE, gone), "unsubscribed");
    let _again = c.subscribe("t");
    await_peer(&a, &c, "t");
    a.client().disconnect(c.peer_id());
    let only = BTreeSet::from([b.peer_id()]);
    assert!(eventually(PATIENCE, || all(&mut client) == only));
    // What the peer was subscribed to goes with the end of its own stream, which may come later.
    assert!(eventually(PATIENCE, gone), "disconnected");
}

#[test]
fn a_message_comes_once_whatever_ways_lead_to_it() {
    let nodes: Vec<_> = (0..4).map(|_| node(&[])).collect();
    for (index, a) in nodes.iter().enumerate() {
        for b in &nodes[..index] {
            a.connect_to(b);
        }
    }
    let mut subscriptions: Vec<_> = nodes.iter().map(|node| node.subscribe("t")).collect();
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.peer_id() != a.peer_id()) {
            await_peer(a, b, "t");
        }
    }
    for number in 0..100_u8 {
        nodes[usize::from(number) % 4].publish("t", &[number]);
    }
    for subscription in &mut subscriptions {
        let got: BTreeSet<_> = (0..100).map(|_| subscription.next_data()).collect();
        assert_eq!(got.len(), 100);
        let more = subscription.within(QUIET).expect_err("no more");
        assert_eq!(more.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn the_report_counts_messages() {
    let daemon = node(&[]);
    let mut subscription = daemon.subscribe("t");
    daemon.publish("t", b"1");
    let _ = subscription.next();
    daemon.signal(rustix::process::Signal::USR1);
    let line = "Pubsub messages published: 1, delivered: 1, lost by slow subscribers: 0";
    let told = || daemon.stderr().contains(line);
    assert!(eventually(PATIENCE, told), "{}", daemon.stderr());
}

#[test]
fn a_stop_does_not_wait_for_subscribers() {
    let mut daemon = node(&["-shutdownGrace=30s"]);
    let mut subscription = daemon.subscribe("t");
    daemon.terminate(PATIENCE / 3);
    let ended = subscription.within(PATIENCE).expect_err("an end");
    assert_eq!(ended.kind(), ErrorKind::UnexpectedEof);
}
