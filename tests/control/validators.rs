//! PUBSUB_VALIDATE: clients that judge, and those that do not do it well.

use std::time::{Duration, Instant};

use rp2pd::wire::pb::{
    PubsubValidateRequest, PubsubValidation, PubsubVerdict, Request, Response, Verdict, request,
};

use super::node;
use super::support::control::typed;
use super::support::{ControlClient, Daemon, PATIENCE, eventually};

/// A registration for `t`.
fn registration() -> PubsubValidateRequest {
    PubsubValidateRequest {
        topic: Some(b"t"[..].into()),
        ..PubsubValidateRequest::default()
    }
}

fn around(part: PubsubValidateRequest) -> Request {
    Request {
        pubsub_validate: Some(part),
        ..typed(request::Type::PubsubValidate)
    }
}

/// A control connection that has become a validator.
struct Judge(ControlClient);

impl Judge {
    fn of(daemon: &Daemon, part: PubsubValidateRequest) -> Self {
        Self::try_of(daemon, part).expect("PUBSUB_VALIDATE")
    }

    fn try_of(daemon: &Daemon, part: PubsubValidateRequest) -> Result<Self, String> {
        let mut client = daemon.client();
        let answer = client.ask(&around(part))?;
        assert_eq!(answer, Response::default(), "a plain OK");
        Ok(Self(client))
    }

    fn next(&mut self) -> PubsubValidation {
        let told: Response = self.0.receive().expect("a question");
        *told.pubsub_validate.expect("a part for validators")
    }

    fn rule(&mut self, verdicts: &[(u64, Verdict)]) {
        let verdicts = verdicts.iter().map(|(id, verdict)| PubsubVerdict {
            id: Some(*id),
            verdict: Some(*verdict as i32),
        });
        let part = PubsubValidateRequest {
            verdicts: verdicts.collect(),
            ..PubsubValidateRequest::default()
        };
        self.0.send(&around(part)).expect("send");
    }

    /// Waits for the message `data` and judges it.
    fn judge(&mut self, data: &[u8], verdict: Verdict) {
        let asked = self.next();
        assert_eq!(asked.message.data.as_deref(), Some(data));
        self.rule(&[(asked.id, verdict)]);
    }
}

/// One that judges and one that publishes, which knows that the first is subscribed to `t`.
fn pair() -> (Daemon, Daemon, super::support::pubsub::Subscription) {
    let (judging, publishing) = (node(&["-pubsub"]), node(&["-pubsub"]));
    judging.connect_to(&publishing);
    let subscription = judging.subscribe("t");
    let known = || {
        let peers = publishing.client().topic_peers("t").expect("LIST_PEERS");
        peers.contains(&judging.peer_id())
    };
    assert!(eventually(PATIENCE, known));
    (judging, publishing, subscription)
}

#[test]
fn the_verdict_decides_about_messages_of_peers() {
    let (judging, publishing, mut subscription) = pair();
    let mut judge = Judge::of(&judging, registration());
    for (data, verdict) in [
        (&b"bad"[..], Verdict::Reject),
        (b"odd", Verdict::Ignore),
        (b"good", Verdict::Accept),
    ] {
        publishing.publish("t", data);
        let asked = judge.next();
        assert_eq!(
            asked.peer.as_deref(),
            Some(&publishing.peer_id().to_bytes()[..])
        );
        assert_eq!(asked.message.data.as_deref(), Some(data));
        assert_eq!(
            asked.message.from.as_deref(),
            Some(&publishing.peer_id().to_bytes()[..])
        );
        judge.rule(&[(asked.id, verdict)]);
    }
    assert_eq!(subscription.next_data(), b"good", "and nothing before");
    // A rejected message is the fault of the peer that sent it.
    assert_eq!(judging.bites("pubsub rules that peers have broken"), 1);
}

#[test]
fn clients_that_publish_wait_for_the_verdict() {
    let (judging, _other, mut subscription) = pair();
    let mut judge = Judge::of(&judging, registration());
    for (verdict, answer) in [
        (Verdict::Accept, Ok(())),
        (Verdict::Reject, Err("validation failed".to_owned())),
        (Verdict::Ignore, Err("validation ignored".to_owned())),
    ] {
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| judging.client().publish("t", b"own"));
            let asked = judge.next();
            assert_eq!(asked.peer, None);
            judge.rule(&[(asked.id, verdict)]);
            assert_eq!(publishing.join().expect("PUBLISH"), answer);
        });
    }
    assert_eq!(subscription.next_data(), b"own");
    // Other topics are not judged.
    judging.publish("u", b"x");
}

#[test]
fn a_validator_that_never_answers_costs_its_deadline() {
    let (judging, _other, mut subscription) = pair();
    for (late, answer) in [
        (None, Err("validation ignored".to_owned())),
        (Some(Verdict::Accept), Ok(())),
        (Some(Verdict::Reject), Err("validation failed".to_owned())),
    ] {
        let part = PubsubValidateRequest {
            deadline: Some(200),
            late: late.map(|late| late as i32),
            ..registration()
        };
        let mut judge = Judge::of(&judging, part);
        let started = Instant::now();
        assert_eq!(judging.client().publish("t", b"late"), answer);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(200), "{took:?}");
        // What comes then changes nothing.
        let asked = judge.next();
        judge.rule(&[(asked.id, Verdict::Accept)]);
        let counted = || judging.bites("verdicts about messages that wait for none") > 0;
        assert!(eventually(PATIENCE, counted));
        drop(judge);
        let free = || Judge::try_of(&judging, registration()).is_ok();
        assert!(eventually(PATIENCE, free));
    }
    assert_eq!(judging.bites("verdicts that do not come in time"), 3);
    assert_eq!(subscription.next_data(), b"late");
}

#[test]
fn a_second_verdict_and_one_about_others_change_nothing() {
    let (judging, publishing, mut subscription) = pair();
    let mut judge = Judge::of(&judging, registration());
    let part = PubsubValidateRequest {
        topic: Some(b"u"[..].into()),
        ..registration()
    };
    let mut stranger = Judge::of(&judging, part);
    // Messages overtake each other while the mesh is being made.
    publishing.publish("t", b"first");
    let first = judge.next();
    publishing.publish("t", b"second");
    let second = judge.next();
    // Numbers are those of a connection.
    let all: Vec<_> = (0..100).map(|id| (id, Verdict::Accept)).collect();
    stranger.rule(&all);
    let stray = || judging.bites("verdicts about messages that wait for none");
    assert!(eventually(PATIENCE, || stray() == 100));
    judge.rule(&[
        (first.id, Verdict::Ignore),
        (first.id, Verdict::Accept),
        // Nobody has been asked about it.
        (second.id + 1, Verdict::Accept),
        (u64::MAX, Verdict::Reject),
    ]);
    judge.rule(&[(second.id, Verdict::Accept)]);
    assert_eq!(subscription.next_data(), b"second");
    assert!(eventually(PATIENCE, || stray() == 103));
    // A verdict without one, and an unknown one, let nothing pass.
    publishing.publish("t", b"third");
    let third = judge.next();
    let part = |verdict| PubsubValidateRequest {
        verdicts: vec![PubsubVerdict {
            id: Some(third.id),
            verdict,
        }],
        ..PubsubValidateRequest::default()
    };
    judge.0.send(&around(part(Some(7)))).expect("send");
    judge.0.send(&around(part(None))).expect("send");
    assert!(eventually(PATIENCE, || stray() == 104));
    publishing.publish("t", b"fourth");
    judge.judge(b"fourth", Verdict::Accept);
    assert_eq!(subscription.next_data(), b"fourth");
}

#[test]
fn when_the_validator_has_gone_its_topic_is_free_or_held() {
    let (judging, publishing, mut subscription) = pair();
    let mut judge = Judge::of(&judging, registration());
    let refused = Judge::try_of(&judging, registration()).err();
    assert_eq!(refused.as_deref(), Some("duplicate validator for topic t"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| judging.client().publish("t", b"waiting"));
        let _ = judge.next();
        drop(judge);
        let answer = waiting.join().expect("PUBLISH");
        assert_eq!(answer, Err("validation ignored".into()));
    });
    let free = || judging.client().publish("t", b"free").is_ok();
    assert!(eventually(PATIENCE, free));
    publishing.publish("t", b"of a peer");
    assert_eq!(subscription.next_data(), b"free");
    assert_eq!(subscription.next_data(), b"of a peer");

    let part = PubsubValidateRequest {
        hold: Some(60_000),
        ..registration()
    };
    drop(Judge::of(&judging, part));
    let held = || judging.client().publish("t", b"held") == Err("validation ignored".into());
    assert!(held());
    let mut judge = Judge::of(&judging, registration());
    publishing.publish("t", b"again");
    judge.judge(b"again", Verdict::Accept);
    assert_eq!(subscription.next_data(), b"again");
}

#[test]
fn a_validator_that_does_not_read_holds_up_nobody() {
    let (judging, publishing, _subscription) = pair();
    let mut other = judging.subscribe("u");
    let part = PubsubValidateRequest {
        deadline: Some(60_000),
        ..registration()
    };
    let _judge = Judge::of(&judging, part);
    let before = judging.rss_kib();
    // More than may wait, in bytes.
    for _ in 0..100 {
        publishing.publish("t", &vec![7; 100_000]);
    }
    publishing.publish("u", b"passes");
    assert_eq!(other.next_data(), b"passes");
    let full = || judging.bites("messages that wait for one validator") > 0;
    assert!(eventually(PATIENCE, full));
    let grown = judging.rss_kib().saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} KiB");
}

/// Clients of the judging daemon publish: a busy machine drops messages between peers, but none of these.
#[test]
fn five_thousand_messages_in_a_second_are_judged() {
    const COUNT: usize = 20_000;
    const AT_ONCE: usize = 16;
    /// Fewer than the subscriber's queue holds.
    const UNDER_WAY: usize = 512;
    let judging = node(&["-pubsub"]);
    let mut subscription = judging.subscribe("t");
    let patient = PubsubValidateRequest {
        deadline: Some(60_000),
        ..registration()
    };
    let mut judge = Judge::of(&judging, patient);
    let (done, room) = std::sync::mpsc::sync_channel(COUNT + UNDER_WAY);
    (0..UNDER_WAY).for_each(|_| done.send(()).expect("room"));
    let (ignored, delivered) = (done.clone(), done);
    let room = std::sync::Mutex::new(room);
    let publish = || {
        let mut client = judging.client();
        let mut accepted = 0;
        for number in 0..COUNT / AT_ONCE {
            let next = room.lock().expect("no panic").recv_timeout(PATIENCE);
            next.expect("those before are done");
            match client.publish("t", &number.to_be_bytes()) {
                Ok(()) => accepted += 1,
                Err(text) => assert_eq!(text, "validation ignored"),
            }
        }
        accepted
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(publish)).collect();
        scope.spawn(move || {
            for expected in 1..=COUNT as u64 {
                let asked = judge.next();
                assert_eq!(asked.id, expected);
                // Every tenth is refused.
                let is_tenth = asked.id.is_multiple_of(10);
                let verdict = match is_tenth {
                    true => Verdict::Ignore,
                    false => Verdict::Accept,
                };
                judge.rule(&[(asked.id, verdict)]);
                if is_tenth {
                    ignored.send(()).expect("room");
                }
            }
        });
        for _ in 0..COUNT - COUNT / 10 {
            let _ = subscription.next_data();
            delivered.send(()).expect("room");
        }
        let accepted = publishers
            .into_iter()
            .map(|one| one.join().expect("no panic"));
        assert_eq!(accepted.sum::<usize>(), COUNT - COUNT / 10);
    });
    let rate = COUNT as f64 / started.elapsed().as_secs_f64();
    println!("{COUNT} messages judged, {rate:.0} a second");
    // The machine that runs this may be busy.
    assert!(rate > 200.0, "{rate:.0} a second");
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let with = |change: fn(&mut PubsubValidateRequest)| {
        let mut part = registration();
        change(&mut part);
        around(part)
    };
    let daemon = node(&["-pubsub"]);
    let mut client = daemon.client();
    for (request, reason) in [
        (
            typed(request::Type::PubsubValidate),
            "Malformed request; missing parameters",
        ),
        (
            with(|part| part.topic = None),
            "Malformed request; missing topic parameter",
        ),
        (with(|part| part.late = Some(9)), "unknown verdict 9"),
        (
            with(|part| part.deadline = Some(60_001)),
            "deadline of 60001 ms: must be at most 60000 ms",
        ),
        (
            with(|part| part.hold = Some(3_600_001)),
            "hold of 3600001 ms: must be at most 3600000 ms",
        ),
        (
            with(|part| part.topic = Some(vec![b'x'; 1025].into())),
            "topic name of 1025 bytes: must be at most 1024 bytes long",
        ),
    ] {
        assert_eq!(client.ask(&request), Err(reason.into()));
    }
    let off = node(&[]).client().ask(&around(registration()));
    assert_eq!(off, Err("PubSub not enabled".into()));
}
