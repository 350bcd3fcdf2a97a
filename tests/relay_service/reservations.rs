//! RESERVE.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use libp2p::core::SignedEnvelope;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use prost::Message as _;

use super::relay;
use crate::support::relay::{
    CONNECTION_FAILED, End, HOP, Hop, Limit, NO_RESERVATION, OK, RESERVATION_REFUSED, STATUS,
    Voucher, receive,
};
use crate::support::{Daemon, PATIENCE, eventually};

#[test]
fn a_reservation_says_until_when_where_and_how_much() {
    let relay = relay(&["-relayTimeLimit=90s", "-relayDataLimit=1000000"]);
    let end = End::new(&relay);
    let mut pipe = end.hop(&relay);
    // What js-libp2p's interoperability suite sends.
    pipe.write_all(&[2, 8, 0]).expect("RESERVE");
    let answer: Hop = receive(&mut pipe).expect("an answer");
    assert_eq!((answer.kind, answer.status), (Some(STATUS), Some(OK)));
    let limit = Limit {
        duration: Some(90),
        data: Some(1_000_000),
    };
    assert_eq!(answer.limit, Some(limit));
    let reservation = answer.reservation.expect("a reservation");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    let expire = reservation.expire.expect("an end");
    assert!((3590..=3600).contains(&expire.saturating_sub(now.as_secs())));

    let expected: Vec<Multiaddr> = relay
        .addrs()
        .iter()
        .map(|address| address.clone().with(Protocol::P2p(relay.peer_id())))
        .collect();
    let told = reservation.addrs.into_iter();
    let told: Vec<Multiaddr> = told.map(|a| a.try_into().expect("an address")).collect();
    assert_eq!(told, expected, "all it has, for one that is as near");

    let voucher = reservation.voucher.expect("a voucher");
    let envelope = SignedEnvelope::from_protobuf_encoding(&voucher).expect("an envelope");
    let (payload, key) = envelope
        .payload_and_signing_key("libp2p-relay-rsvp".into(), &[3, 2])
        .expect("a signature");
    assert_eq!(key.to_peer_id(), relay.peer_id());
    let voucher = Voucher::decode(payload).expect("a voucher");
    assert_eq!(voucher.relay, relay.peer_id().to_bytes());
    assert_eq!(voucher.peer, end.peer_id().to_bytes());
    assert_eq!(voucher.expiration, expire);
}

#[test]
fn there_are_as_many_as_the_flag_says() {
    let relay = relay(&["-relayMaxReservations=2"]);
    let ends: Vec<End> = (0..3).map(|_| End::new(&relay)).collect();
    for end in &ends[..2] {
        end.reserved(&relay);
        end.reserved(&relay);
    }
    assert_eq!(ends[2].reserve(&relay).status, Some(RESERVATION_REFUSED));
    assert!(relay.bites("reservations at this relay") >= 1);
    // A place of one that leaves is not free for another at the same address: it has used up
    // what half an hour has for it.
    ends[0].daemon.client().disconnect(relay.peer_id());
    let left = eventually(PATIENCE, || relay.client().list_peers().len() == 2);
    assert!(left, "still connected");
    assert_eq!(ends[2].reserve(&relay).status, Some(RESERVATION_REFUSED));
    assert!(relay.bites("reservations at this relay from one address") >= 1);
    // Those that have one may go on.
    ends[1].reserved(&relay);
}

#[test]
fn who_has_not_reserved_or_has_left_is_not_called() {
    let relay = relay(&[]);
    let (source, destination, deaf) = (End::new(&relay), End::new(&relay), End::deaf(&relay));
    for stranger in [destination.peer_id(), PeerId::random(), relay.peer_id()] {
        let status = source.called(&relay, stranger);
        assert_eq!(status, Some(NO_RESERVATION), "{stranger}");
    }
    deaf.reserved(&relay);
    let status = source.called(&relay, deaf.peer_id());
    assert_eq!(status, Some(CONNECTION_FAILED), "it does not speak /stop");
    destination.reserved(&relay);
    drop(source.circuit(&relay, &destination));
    destination.daemon.client().disconnect(relay.peer_id());
    let gone = eventually(PATIENCE, || {
        source.called(&relay, destination.peer_id()) == Some(NO_RESERVATION)
    });
    assert!(gone, "a reservation outlives its connection");
    // Nor does it come back with another connection.
    destination.daemon.connect_to(&relay);
    let status = source.called(&relay, destination.peer_id());
    assert_eq!(status, Some(NO_RESERVATION));
    destination.reserved(&relay);
    drop(source.circuit(&relay, &destination));
}

/// What `daemon` tells `other` that it speaks.
fn protocols(daemon: &Daemon, other: &Daemon) -> String {
    daemon.connect_to(other);
    let mut told = String::new();
    let identified = eventually(PATIENCE, || {
        let report = other.report();
        let peer = format!("\n{} ", daemon.peer_id());
        let (_, rest) = report.rsplit_once(&peer).expect("a connection");
        told = rest.lines().nth(1).expect("a line").trim().to_owned();
        told != "protocols:"
    });
    assert!(identified, "{told}");
    told
}

#[test]
fn without_the_flags_nothing_is_relayed() {
    let witness = relay(&[]);
    for flag in ["-relay=0", "-relayService=0"] {
        let silent = relay(&[flag]);
        let told = protocols(&silent, &witness);
        assert!(told.contains("/ipfs/id/1.0.0"), "{told}");
        assert!(!told.contains(HOP), "{flag}: {told}");
        let opened = witness.client().open_stream(silent.peer_id(), &[HOP]);
        let refused = opened.err().unwrap_or_default();
        assert!(refused.contains("protocols not supported"), "{refused}");
    }
    assert!(protocols(&relay(&[]), &witness).contains(HOP));
}
