//! Relays that lie, keep silent, close, refuse.

use std::io::Write as _;

use rp2pd::wire::frame;

use super::*;
use crate::support::quiet::{Quiet, assert_quick};
use crate::support::raw;
use crate::support::relay::{Limit, RESERVATION_REFUSED, RESOURCE_LIMIT_EXCEEDED};

fn answer(pipe: &mut Pipe, hop: &Hop) {
    let _ = pipe.write_all(&frame::encode(hop));
}

fn refusal(status: i32) -> Hop {
    Hop {
        kind: Some(STATUS),
        status: Some(status),
        ..Hop::default()
    }
}

/// A relay that gives what is no place; the node tells none, and asks again later and later.
#[test]
fn what_is_no_place_is_asked_for_again_later_and_later() {
    let mut lie = grant(after(3600));
    if let Some(reservation) = &mut lie.reservation {
        reservation.voucher = Some(b"nobody's word".to_vec());
    }
    let mut empty = grant(0);
    empty.reservation = None;
    let answers: Vec<Vec<u8>> = vec![
        frame::encode(&lie).to_vec(),
        frame::encode(&empty).to_vec(),
        frame::encode(&grant(after(1))).to_vec(),
        frame::encode(&grant(1)).to_vec(),
        frame::encode(&Hop::default()).to_vec(),
        raw::varint(1 << 30),
        vec![0xff; 64],
        // Half of a message, and the end.
        frame::encode(&grant(after(3600)))[..3].to_vec(),
        Vec::new(),
    ];
    std::thread::scope(|scope| {
        for bytes in answers {
            scope.spawn(move || is_no_place(&bytes));
        }
    });
}

fn is_no_place(bytes: &[u8]) {
    let relay = ByHand::new();
    let node = relay.trusted_by(&[]).spawn();
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        let Some(mut pipe) = relay.asked(Duration::from_millis(500)) else {
            continue;
        };
        asked += 1;
        let _ = pipe.write_all(bytes);
        drop(pipe);
    }
    // The first before the banner, then after 1, 2 and 4 s.
    assert!((2..=5).contains(&asked), "{asked} times: {bytes:?}");
    assert_eq!(circuits(&node), [""; 0], "{bytes:?}");
    assert_quick(&node, "with a relay that lies");
}

#[test]
fn a_refusal_is_respected() {
    for status in [RESERVATION_REFUSED, RESOURCE_LIMIT_EXCEEDED] {
        let relay = ByHand::new();
        let node = std::thread::scope(|scope| {
            let started = scope.spawn(|| relay.trusted_by(&[]).spawn());
            let mut pipe = relay.asked(PATIENCE).expect("a request");
            answer(&mut pipe, &refusal(status));
            started.join().expect("a daemon")
        });
        assert!(relay.asked(Duration::from_secs(10)).is_none(), "{status}");
        assert_eq!(circuits(&node), [""; 0]);
    }
}

/// The start is not held up for ever, and every request ends after ten seconds.
#[test]
fn a_relay_that_never_answers_holds_nothing() {
    let relay = ByHand::new();
    let begun = Instant::now();
    let mut node = relay.trusted_by(&[]).spawn();
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(circuits(&node), [""; 0]);
    let quiet = Quiet::of(&node);
    let mut held = vec![relay.asked(PATIENCE).expect("a request")];
    let mut byte = [0];
    let end = std::io::Read::read(&mut held[0], &mut byte);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    held.push(relay.asked(PATIENCE).expect("another request"));
    assert_quick(&node, "while a relay is silent");
    drop(held);
    quiet.assert_again(&node, "a silent relay");
    let begun = Instant::now();
    let _pending = relay.asked(PATIENCE);
    assert!(node.terminate(PATIENCE).success());
    assert!(begun.elapsed() < PATIENCE);
}

/// Years, no limits, addresses of others: nothing of that is believed or told.
#[test]
fn promises_that_are_too_good_are_cut() {
    let relay = ByHand::new();
    let mut good = grant(u64::MAX);
    good.limit = Some(Limit {
        duration: Some(u32::MAX),
        data: Some(u64::MAX),
    });
    if let Some(reservation) = &mut good.reservation {
        let far: Multiaddr = "/ip4/60.0.9.9/tcp/1".parse().expect("an address");
        reservation.addrs = vec![far.to_vec(), vec![0xff; 100], Vec::new()];
    }
    let node = std::thread::scope(|scope| {
        let started = scope.spawn(|| relay.trusted_by(&[]).spawn());
        let mut pipe = relay.asked(PATIENCE).expect("a request");
        answer(&mut pipe, &good);
        started.join().expect("a daemon")
    });
    let circuit = format!("{}/p2p-circuit", relay.named());
    assert_eq!(circuits(&node), [circuit]);
    let status = seen::status(&node);
    let place = &status["autorelay"]["reservations"][0];
    let expires = place["expires_in"].as_u64().expect("a number");
    assert!((3500..=3600).contains(&expires), "{place}");
    assert_eq!(place["data_limit"], u64::MAX);
}

/// A short place is asked for anew before it is over, and one that is refused then is gone.
#[test]
fn a_place_is_asked_for_anew_before_it_is_over() {
    let relay = ByHand::new();
    let node = std::thread::scope(|scope| {
        let started = scope.spawn(|| relay.trusted_by(&[]).spawn());
        let mut pipe = relay.asked(PATIENCE).expect("a request");
        answer(&mut pipe, &grant(after(12)));
        started.join().expect("a daemon")
    });
    let begun = Instant::now();
    let mut pipe = relay.asked(Duration::from_secs(12)).expect("a renewal");
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(circuits(&node).len(), 1);
    answer(&mut pipe, &grant(after(12)));
    let mut pipe = relay.asked(Duration::from_secs(12)).expect("a renewal");
    assert_eq!(circuits(&node).len(), 1);
    answer(&mut pipe, &refusal(RESERVATION_REFUSED));
    let gone = eventually(PATIENCE, || circuits(&node).is_empty());
    assert!(gone, "{}", node.stderr());
    let logged = eventually(PATIENCE, || node.stderr().contains("relay lost"));
    assert!(logged, "{}", node.stderr());
}

/// A place that nobody renews in time is over when the relay has said.
#[test]
fn a_place_that_is_over_is_not_told() {
    let relay = ByHand::new();
    let node = std::thread::scope(|scope| {
        let started = scope.spawn(|| relay.trusted_by(&[]).spawn());
        let mut pipe = relay.asked(PATIENCE).expect("a request");
        answer(&mut pipe, &grant(after(12)));
        started.join().expect("a daemon")
    });
    assert_eq!(circuits(&node).len(), 1);
    let begun = Instant::now();
    let _silent = relay.asked(Duration::from_secs(12)).expect("a renewal");
    let gone = eventually(PATIENCE, || circuits(&node).is_empty());
    assert!(gone, "{}", node.stderr());
    assert!(
        begun.elapsed() < Duration::from_secs(16),
        "{:?}",
        begun.elapsed()
    );
}

/// Relays that cannot be: the node itself, a circuit, an id without an address.
#[test]
fn relays_that_cannot_be_are_harmless() {
    let node = |trusted: &str| {
        Launch::new()
            .args([LISTEN, "-dhtClient", "-autoRelay", "-relayDiscovery=0"])
            .args(["-forceReachabilityPrivate"])
            .args([format!("-trustedRelays={trusted}")])
            .spawn()
    };
    for trusted in [
        format!("/p2p/{}", nobody()),
        format!("/ip4/127.0.0.1/tcp/1/p2p/{}", nobody()),
        format!(
            "/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit/p2p/{}",
            nobody(),
            nobody()
        ),
    ] {
        let daemon = node(&trusted);
        assert_eq!(circuits(&daemon), [""; 0], "{trusted}");
        assert_quick(&daemon, "with a relay that cannot be");
    }
}
