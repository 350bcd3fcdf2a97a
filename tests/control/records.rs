//! DHT_VALIDATOR: clients that judge the records of a namespace, and those that do not do it well.

use std::time::{Duration, Instant};

use rp2pd::wire::pb::{
    DhtValidation, DhtValidatorRequest, DhtVerdict, Request, Response, dht_validation::Type,
    request,
};

use super::node;
use super::support::control::typed;
use super::support::dht::NOT_FOUND;
use super::support::kad::{self, Kind, Message, Puppet, Reply, admitted, polite};
use super::support::{ControlClient, Daemon, PATIENCE, eventually};

const KEY: &[u8] = b"/app/one";

fn registration() -> DhtValidatorRequest {
    DhtValidatorRequest {
        namespace: Some(b"app"[..].into()),
        ..DhtValidatorRequest::default()
    }
}

fn around(part: DhtValidatorRequest) -> Request {
    Request {
        dht_validator: Some(part),
        ..typed(request::Type::DhtValidator)
    }
}

/// A control connection that has become a validator.
struct Validator(ControlClient);

impl Validator {
    fn of(daemon: &Daemon) -> Self {
        Self::with(daemon, registration())
    }

    fn with(daemon: &Daemon, part: DhtValidatorRequest) -> Self {
        Self::try_with(daemon, part).expect("DHT_VALIDATOR")
    }

    fn try_with(daemon: &Daemon, part: DhtValidatorRequest) -> Result<Self, String> {
        let mut client = daemon.client();
        let answer = client.ask(&around(part))?;
        assert_eq!(answer, Response::default(), "a plain OK");
        Ok(Self(client))
    }

    fn next(&mut self) -> DhtValidation {
        let told: Response = self.0.receive().expect("a question");
        *told.dht_validator.expect("a part for validators")
    }

    fn say(&mut self, verdicts: Vec<DhtVerdict>) {
        let part = DhtValidatorRequest {
            verdicts,
            ..DhtValidatorRequest::default()
        };
        self.0.send(&around(part)).expect("send");
    }

    /// Answers what is asked until the daemon closes: valid is what begins with `v`, and the best is
    /// the last in the order of bytes. Returns how much was asked.
    fn serve(mut self) -> usize {
        let mut asked = 0;
        while let Ok(told) = self.0.receive::<Response>() {
            let question = told.dht_validator.expect("a part for validators");
            asked += 1;
            let verdict = honest(&question);
            self.say(vec![verdict]);
        }
        asked
    }
}

fn honest(question: &DhtValidation) -> DhtVerdict {
    let values = &question.values;
    let best = values.iter().max().expect("a value");
    let best = values.iter().position(|value| value == best);
    DhtVerdict {
        id: Some(question.id),
        valid: Some(values[0].starts_with(b"v")),
        best: best.and_then(|best| u32::try_from(best).ok()),
        reason: Some(b"values begin with v"[..].into()),
    }
}

/// What is done while a validator like [`Validator::serve`] answers for `daemon`.
fn served<T>(daemon: &Daemon, done: impl FnOnce() -> T) -> T {
    served_all([daemon], done)
}

fn served_all<const N: usize, T>(daemons: [&Daemon; N], done: impl FnOnce() -> T) -> T {
    let validators = daemons.map(Validator::of);
    let ends = validators
        .each_ref()
        .map(|one| one.0.pipe.socket.try_clone().expect("a handle"));
    std::thread::scope(|scope| {
        for validator in validators {
            scope.spawn(|| validator.serve());
        }
        let outcome = done();
        for end in ends {
            end.shutdown();
        }
        outcome
    })
}

/// Two servers that have each other in their tables.
fn pair() -> (Daemon, Daemon) {
    let (a, b) = (node(&["-dhtServer"]), node(&["-dhtServer"]));
    join(&a, &b);
    (a, b)
}

fn join(a: &Daemon, b: &Daemon) {
    a.connect_to(b);
    a.client().await_table(&[b.peer_id()]);
    b.client().await_table(&[a.peer_id()]);
}

#[test]
fn records_that_clients_judge_are_stored_and_found_everywhere() {
    let (a, b) = pair();
    let before = a.client().put_value(KEY, b"v1");
    assert_eq!(before, Err("invalid record keytype".into()));
    served_all([&a, &b], || {
        a.client().put_value(KEY, b"v1").expect("PUT_VALUE");
        for daemon in [&a, &b] {
            assert_eq!(daemon.client().get_value(KEY), Ok(b"v1".to_vec()));
        }
        let refused = a.client().put_value(KEY, b"w");
        assert_eq!(refused, Err("values begin with v".into()));
        b.client().put_value(KEY, b"v2").expect("PUT_VALUE");
        assert_eq!(a.client().get_value(KEY), Ok(b"v2".to_vec()));
        assert_eq!(a.client().search_value(KEY), Ok(vec![b"v2".to_vec()]));
        let old = a.client().put_value(KEY, b"v1");
        assert_eq!(
            old,
            Err("can't replace a newer value with an older value".into())
        );
    });
    // Both have gone: what they had judged is judged by nobody.
    assert_eq!(a.client().get_value(KEY), Err(NOT_FOUND.into()));
    let after = a.client().put_value(KEY, b"v3");
    assert_eq!(after, Err("invalid record keytype".into()));
}

#[test]
fn what_peers_tell_is_judged_before_it_is_shown_or_stored() {
    let a = node(&["-dhtServer"]);
    let lie = |value: &'static [u8]| {
        let puppet = Puppet::new(admitted(move |own, asked| {
            if asked.kind() == Kind::GetValue && asked.key == KEY {
                Reply::Message(asked.reply().with_record(KEY, value))
            } else {
                polite(own, asked)
            }
        }));
        puppet.join(&a);
        puppet
    };
    let puppets = [lie(b"wrong"), lie(b"v1"), lie(b"v7"), lie(b"v7")];
    served(&a, || {
        let shown = a.client().search_value(KEY).expect("SEARCH_VALUE");
        assert_eq!(shown.last(), Some(&b"v7".to_vec()));
        assert!(!shown.contains(&b"wrong".to_vec()), "{shown:?}");
        assert_eq!(a.client().get_value(KEY), Ok(b"v7".to_vec()));
        // Who has told another one is corrected.
        let corrected = || {
            let asked = puppets[1].asked();
            let mut records = asked.iter().filter_map(|asked| asked.record.as_ref());
            records.any(|record| record.value == b"v7")
        };
        assert!(eventually(PATIENCE, corrected));
        // Peers that put are judged as well.
        let ask = |request: &Message| {
            let mut pipe = kad::open(&puppets[0].daemon, a.peer_id()).expect("a stream");
            kad::ask(&mut pipe, request)
        };
        let put = |value: &[u8]| ask(&Message::put(KEY, value));
        assert!(put(b"wrong").is_err(), "reset");
        assert!(put(b"v8").is_ok(), "stored");
        assert!(put(b"v6").is_err(), "older");
        let get = ask(&Message::new(Kind::GetValue, KEY)).expect("an answer");
        let told = get.record.map(|record| record.value);
        assert_eq!(told.as_deref(), Some(&b"v8"[..]));
    });
}

#[test]
fn a_validator_that_never_answers_costs_its_deadline_and_nobody_else_anything() {
    let (a, b) = pair();
    let mut silent = Validator::with(
        &a,
        DhtValidatorRequest {
            deadline: Some(1000),
            ..registration()
        },
    );
    std::thread::scope(|scope| {
        let started = Instant::now();
        let putting = scope.spawn(|| a.client().put_value(KEY, b"v1"));
        let asked = silent.next();
        assert_eq!((asked.r#type(), &asked.key[..]), (Type::Validate, KEY));
        // Queries about other keys, and what peers ask, go on.
        let (key, value) = super::support::dht::fresh_public_key_record();
        a.client().put_value(&key, &value).expect("PUT_VALUE");
        assert_eq!(b.client().get_value(&key), Ok(value));
        let late = "no verdict from the validator of namespace app: it did not answer in time";
        assert_eq!(putting.join().expect("PUT_VALUE"), Err(late.into()));
        assert!(started.elapsed() >= Duration::from_secs(1));
    });
    assert_eq!(a.bites("records that are not judged in time"), 1);
    // A verdict that comes then changes nothing.
    silent.say(vec![DhtVerdict {
        id: Some(1),
        valid: Some(true),
        ..DhtVerdict::default()
    }]);
    let counted = || a.bites("verdicts about records that wait for none") == 1;
    assert!(eventually(PATIENCE, counted));
    assert_eq!(a.client().get_value(KEY), Err(NOT_FOUND.into()));
}

#[test]
fn a_validator_that_goes_leaves_nobody_waiting() {
    let (a, _b) = pair();
    let mut leaving = Validator::with(
        &a,
        DhtValidatorRequest {
            deadline: Some(60_000),
            ..registration()
        },
    );
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| a.client().put_value(KEY, b"v1"));
        let _ = leaving.next();
        drop(leaving);
        let gone = "no verdict from the validator of namespace app: it has gone";
        assert_eq!(putting.join().expect("PUT_VALUE"), Err(gone.into()));
    });
    // The namespace is free at once.
    served(&a, || a.client().put_value(KEY, b"v1")).expect("PUT_VALUE");
}

#[test]
fn verdicts_count_once_for_what_was_asked() {
    let (a, _b) = pair();
    let mut validator = Validator::of(&a);
    let valid = |id| DhtVerdict {
        id: Some(id),
        valid: Some(true),
        ..DhtVerdict::default()
    };
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| a.client().put_value(KEY, b"v1"));
        let asked = validator.next();
        assert_eq!(asked.id, 1);
        // For another, for nobody, and then twice.
        let nobody = DhtVerdict {
            id: None,
            ..valid(0)
        };
        validator.say(vec![valid(2), valid(u64::MAX), nobody, valid(1), valid(1)]);
        assert_eq!(putting.join().expect("PUT_VALUE"), Ok(()));
    });
    let strays = || a.bites("verdicts about records that wait for none");
    assert!(eventually(PATIENCE, || strays() == 3), "{}", strays());
    // Two valid records, and a choice of neither: the one that is held stays.
    for best in [None, Some(2), Some(u32::MAX)] {
        std::thread::scope(|scope| {
            let putting = scope.spawn(|| a.client().put_value(KEY, b"v2"));
            loop {
                let asked = validator.next();
                let selects = asked.r#type() == Type::Select;
                assert!(!selects || asked.values == [&b"v2"[..], b"v1"]);
                validator.say(vec![DhtVerdict {
                    best,
                    ..valid(asked.id)
                }]);
                if selects {
                    break;
                }
            }
            let refused = "no verdict from the validator of namespace app: it chose none of the \
                           records";
            assert_eq!(putting.join().expect("PUT_VALUE"), Err(refused.into()));
        });
    }
    drop(validator);
    let held = served(&a, || a.client().get_value(KEY));
    assert_eq!(held, Ok(b"v1".to_vec()));
}

#[test]
fn a_namespace_has_one_validator_and_some_have_none() {
    let a = node(&["-dht", "-dhtNamespace=free"]);
    let named = |namespace: &[u8]| DhtValidatorRequest {
        namespace: Some(namespace.to_vec().into()),
        ..DhtValidatorRequest::default()
    };
    let refusal = |part| Validator::try_with(&a, part).err().expect("refused");
    let first = Validator::of(&a);
    assert_eq!(
        refusal(registration()),
        "duplicate validator for namespace app"
    );
    drop(first);
    let _second = Validator::of(&a);
    for own in ["pk", "ipns"] {
        let text = format!("namespace {own} is validated by the daemon itself");
        assert_eq!(refusal(named(own.as_bytes())), text);
    }
    for bad in [&b""[..], b"a/b", &[b'a'; 65]] {
        let text = format!(
            "namespace of {} bytes: must be 1 to 64 bytes long, without a slash",
            bad.len()
        );
        assert_eq!(refusal(named(bad)), text);
    }
    let missing = "Malformed request; missing namespace parameter";
    assert_eq!(refusal(DhtValidatorRequest::default()), missing);
    let long = DhtValidatorRequest {
        deadline: Some(60_001),
        ..registration()
    };
    assert_eq!(
        refusal(long),
        "deadline of 60001 ms: must be at most 60000 ms"
    );
    let without = Validator::try_with(&node(&[]), registration());
    assert_eq!(without.err(), Some("DHT not enabled".into()));
    // A namespace that the operator has opened is judged for as long as somebody does.
    let free = |value: &[u8]| a.client().put_value(b"/free/1", value);
    let empty = super::support::dht::EMPTY_TABLE;
    assert_eq!(free(b"x"), Err(empty.into()));
    let mut judged = Validator::with(&a, named(b"free"));
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| free(b"y"));
        let asked = judged.next();
        judged.say(vec![DhtVerdict {
            id: Some(asked.id),
            valid: Some(false),
            ..DhtVerdict::default()
        }]);
        let refused = "record refused by the validator of namespace free";
        assert_eq!(putting.join().expect("PUT_VALUE"), Err(refused.into()));
    });
    drop(judged);
    assert_eq!(free(b"z"), Err(empty.into()));
}

#[test]
fn a_validator_that_does_not_read_fills_its_queue_and_nothing_else() {
    let a = node(&["-dhtServer"]);
    let silent = Validator::with(
        &a,
        DhtValidatorRequest {
            deadline: Some(60_000),
            ..registration()
        },
    );
    let mut waiting = Vec::new();
    let full = eventually(PATIENCE, || {
        let mut client = a.client();
        let put = put_request(&[b'v'; 64 << 10]);
        client.send(&put).expect("send");
        waiting.push(client);
        a.bites("records that wait for one validator") > 0
    });
    assert!(full, "{} wait", waiting.len());
    // Beyond it the answer comes at once.
    let text = "no verdict from the validator of namespace app: too many records wait for it";
    let refused = a.client().put_value(KEY, &[b'v'; 64 << 10]);
    assert_eq!(refused, Err(text.into()));
    let _ = a.client().identify();
    drop(silent);
    // Everybody else is answered.
    for mut client in waiting {
        let answer: Response = client.receive().expect("an answer");
        assert!(answer.error.is_some());
    }
}

fn put_request(value: &[u8]) -> Request {
    use rp2pd::wire::pb::dht_request::Type as Kind;
    let mut put = super::support::dht::query(Kind::PutValue);
    put.key = Some(KEY.into());
    put.value = Some(value.to_vec().into());
    super::support::dht::around(put)
}

#[test]
fn thousands_of_records_are_judged() {
    const COUNT: usize = 10_000;
    const AT_ONCE: usize = 16;
    let a = node(&["-dhtServer"]);
    let validator = Validator::of(&a);
    let end = validator.0.pipe.socket.try_clone().expect("a handle");
    let started = Instant::now();
    let asked = std::thread::scope(|scope| {
        let judging = scope.spawn(|| validator.serve());
        let putting: Vec<_> = (0..AT_ONCE)
            .map(|part| {
                let a = &a;
                scope.spawn(move || {
                    let mut client = a.client();
                    for number in (part..COUNT).step_by(AT_ONCE) {
                        let key = format!("/app/{number}");
                        let put = client.put_value(key.as_bytes(), b"v1");
                        // It is held here.
                        assert_eq!(put, Err(super::support::dht::EMPTY_TABLE.into()));
                    }
                })
            })
            .collect();
        putting
            .into_iter()
            .for_each(|one| one.join().expect("no panic"));
        end.shutdown();
        judging.join().expect("no panic")
    });
    let rate = COUNT as f64 / started.elapsed().as_secs_f64();
    println!("{COUNT} records judged, {rate:.0} a second");
    assert_eq!(asked, COUNT);
    let held = served(&a, || a.client().get_value(b"/app/9999"));
    assert_eq!(held, Ok(b"v1".to_vec()));
}

#[test]
fn the_end_of_the_daemon_ends_validators_and_those_who_wait() {
    let mut a = node(&["-dhtServer"]);
    let mut silent = Validator::of(&a);
    let mut client = a.client();
    client.send(&put_request(b"v1")).expect("send");
    let _ = silent.next();
    let started = Instant::now();
    let status = a.terminate(PATIENCE);
    assert!(status.success(), "{status}");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "before the verdict's deadline"
    );
    assert!(silent.0.receive::<Response>().is_err(), "closed");
}
