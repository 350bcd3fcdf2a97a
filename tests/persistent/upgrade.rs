//! From requests to the persistent mode.

use std::io::ErrorKind;

use rp2pd::wire::pb::{Response, response};

use super::*;
use crate::support::{persistent::outcome, raw};

const UPGRADE: &[u8] = b"\x02\x08\x09";

#[test]
fn the_upgrade_is_answered_byte_for_byte() {
    let daemon = Daemon::spawn(&[]);
    for tcp in [false, true] {
        let other;
        let daemon = if tcp {
            other = crate::support::Launch::new().tcp().spawn();
            &other
        } else {
            &daemon
        };
        let mut client = daemon.client();
        client.send_raw(UPGRADE).expect("send");
        let mut answer = [0; 3];
        std::io::Read::read_exact(&mut client.pipe, &mut answer).expect("an answer");
        assert_eq!(answer, *b"\x02\x08\x00");
    }
}

#[test]
fn messages_sent_together_with_the_upgrade_are_obeyed() {
    let daemon = node();
    let mut client = daemon.client();
    let id = [7; 16];
    let add = [raw::bytes(1, b"together"), raw::int(2, 0)].concat();
    let add = [raw::bytes(1, &id), raw::bytes(2, &add)].concat();
    client
        .send_raw(&[UPGRADE, &raw::frame(&add)].concat())
        .expect("send");
    let answer: Response = client.receive().expect("an answer");
    assert_eq!(answer.r#type(), response::Type::Ok);
    let done = client.pipe.read_frame().expect("a message");
    assert_eq!(done[..], raw::bytes(1, &id), "the call id alone");
}

#[test]
fn several_connections_live_side_by_side_and_requests_go_on() {
    let (a, b) = pair();
    let mut handlers: Vec<_> = (0..5).map(|_| b.persistent()).collect();
    for (index, handler) in handlers.iter_mut().enumerate() {
        handler.add(&format!("name.{index}"), false).expect("add");
    }
    let serving: Vec<_> = handlers.into_iter().map(|one| one.serve(echo)).collect();
    let mut callers: Vec<_> = (0..3).map(|_| a.persistent()).collect();
    for caller in &mut callers {
        for index in 0..5 {
            let name = format!("name.{index}");
            assert_eq!(caller.call(b.peer_id(), &name, b"x").response(), b"x");
        }
    }
    assert_eq!(a.client().list_peers().len(), 1);
    drop(b);
    let served: usize = serving
        .into_iter()
        .map(|one| one.join().expect("no panic"))
        .sum();
    assert_eq!(served, 15);
}

#[test]
fn a_request_on_an_upgraded_connection_ends_it() {
    let daemon = node_with(&["-stayAlive"]);
    let mut connection = daemon.persistent();
    connection.client.send_raw(b"\x02\x08\x00").expect("send");
    let end = connection.receive().expect_err("the end");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    let _ = daemon.client().identify();
}

#[test]
fn a_javascript_peerstore_request_does_not_upgrade() {
    let daemon = Daemon::spawn(&[]);
    let mut client = daemon.client();
    let payload = [raw::int(1, 9), raw::bytes(9, &raw::int(1, 1))].concat();
    client.send_raw(&raw::frame(&payload)).expect("send");
    let answer: Response = client.receive().expect("an answer");
    assert_eq!(answer.error.expect("an error").msg, "Invalid request");
    let _ = client.identify();
}

#[test]
fn a_removal_under_the_number_of_the_upgrade_upgrades() {
    let daemon = node();
    let mut client = daemon.client();
    let removal = [raw::bytes(1, b"\x90\x03\x07/tmp/no"), raw::bytes(2, b"x")].concat();
    let payload = [raw::int(1, 9), raw::bytes(9, &removal)].concat();
    client.send_raw(&raw::frame(&payload)).expect("send");
    assert_eq!(
        client.receive::<Response>().expect("an answer"),
        Response::default()
    );
    let mut connection = Persistent::upgraded(client);
    let failed = connection.call(daemon.peer_id(), "x", b"");
    assert_eq!(failed.failure(), "failed to dial: dial to self attempted");
    assert!(outcome(None).is_err());
}
