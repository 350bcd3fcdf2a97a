//! Requests of rp2pd alone, as somebody sends them who means no good.

use rp2pd::wire::pb::{DhtValidatorRequest, Request, Response, request};

use super::node;
use super::support::control::typed;
use super::support::{ControlClient, Daemon, PATIENCE, Random, eventually, raw};

/// Connections for each type.
const ROUNDS: usize = 120;

fn assert_sound(daemon: &Daemon) {
    let _ = daemon.client().identify();
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
}

#[test]
fn any_bytes_as_parameters_are_answered() {
    let daemon = node(&["-pubsub", "-dhtServer"]);
    let mut random = Random::new("any_bytes_as_parameters_are_answered");
    for kind in 101..=106_u64 {
        for round in 0..ROUNDS {
            let len = random.below(48);
            let mut part = random.bytes(len);
            if round.is_multiple_of(2) && part.len() > 2 {
                // A kind of CONTROL that there is.
                let kinds = [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 40, 41, 42, 43];
                part[..2].copy_from_slice(&[0x08, kinds[random.below(kinds.len())]]);
            }
            let body = [raw::int(1, kind.cast_signed()), raw::bytes(kind, &part)].concat();
            let mut client = daemon.client();
            client.send_raw(&raw::frame(&body)).expect("send");
            let answer: Response = client.receive().expect("an answer");
            let text = answer.error.map(|error| error.msg);
            assert_ne!(text, Some(String::new()), "a refusal has a reason");
        }
    }
    assert_sound(&daemon);
}

fn validate(daemon: &Daemon, namespace: &str) -> Result<ControlClient, String> {
    let mut client = daemon.client();
    client.ask(&Request {
        dht_validator: Some(DhtValidatorRequest {
            namespace: Some(namespace.to_owned().into()),
            ..DhtValidatorRequest::default()
        }),
        ..typed(request::Type::DhtValidator)
    })?;
    Ok(client)
}

#[test]
fn a_validator_that_sends_what_is_no_request_is_one_no_more() {
    let daemon = node(&["-dhtServer"]);
    for bytes in [
        &[0; 4][..],
        &[0xff; 12],
        b"\x03\x08\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = validate(&daemon, "app").expect("DHT_VALIDATOR");
        client.send_raw(bytes).expect("send");
        client.pipe.socket.shutdown_write().expect("an end");
        assert!(client.receive::<Response>().is_err(), "closed");
        let free = || validate(&daemon, "app").is_ok();
        assert!(eventually(PATIENCE, free), "{bytes:?}");
        let free = || validate(&daemon, "app").is_ok();
        assert!(eventually(PATIENCE, free), "{bytes:?}");
    }
    // Other requests are read and ignored, also half of one.
    let mut client = validate(&daemon, "other").expect("DHT_VALIDATOR");
    client.send(&typed(request::Type::Identify)).expect("send");
    client.send_raw(&[200]).expect("send");
    let refused = validate(&daemon, "other").err();
    assert_eq!(
        refused,
        Some("duplicate validator for namespace other".into())
    );
    assert_sound(&daemon);
}

#[test]
fn there_are_so_many_validators_and_no_more() {
    const MAX: usize = 256;
    let daemon = node(&["-dhtServer"]);
    let validators: Vec<_> = (0..MAX)
        .map(|number| validate(&daemon, &number.to_string()).expect("DHT_VALIDATOR"))
        .collect();
    let refused = validate(&daemon, "more").err();
    assert_eq!(refused, Some("too many validators".into()));
    drop(validators);
    assert!(eventually(PATIENCE, || validate(&daemon, "more").is_ok()));
    assert_sound(&daemon);
}
