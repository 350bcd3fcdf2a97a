//! Peers that never answer: deadlines hold, values are sent as they are found, and a query ends
//! when its client leaves.

use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use rp2pd::wire::pb::{DhtRequest, dht_request};

use super::*;
use crate::support::dht::{DEADLINE, NOT_FOUND, around, cid, fresh_public_key_record, query};
use crate::support::kad::{Kind, Puppet, Reply, admitted};
use crate::support::{PATIENCE, eventually};

/// Far more than one second, and far less than the timeouts that end a query without a deadline.
const SOON: Duration = Duration::from_secs(5);

/// A server whose only neighbour takes requests and never answers.
fn beside_silence() -> (Daemon, Puppet) {
    let node = server();
    let puppet = Puppet::new(admitted(|_, _| Reply::Silence));
    puppet.join(&node);
    (node, puppet)
}

fn lookup(kind: dht_request::Type, timeout: i64) -> DhtRequest {
    let (key, value) = fresh_public_key_record();
    let mut query = query(kind);
    let nobody = Keypair::generate_ecdsa().public().to_peer_id();
    query.peer = Some(nobody.to_bytes().into());
    query.cid = Some(cid(&key).into());
    query.key = Some(key.into());
    query.value = Some(value.into());
    query.timeout = Some(timeout);
    query
}

#[test]
fn one_second_is_one_second() {
    use dht_request::Type;
    let (node, _puppet) = beside_silence();
    let mut client = node.client();
    for kind in [
        Type::FindPeer,
        Type::GetClosestPeers,
        Type::GetPublicKey,
        Type::GetValue,
        Type::PutValue,
        Type::Provide,
    ] {
        let begun = Instant::now();
        let answer = client.dht(lookup(kind, 1));
        // Go does not tell a peer that was not found in time from one that does not exist.
        let in_time = kind == Type::FindPeer && answer == Err(NOT_FOUND.into());
        assert!(
            in_time || answer == Err(DEADLINE.into()),
            "{kind:?}: {answer:?}"
        );
        assert!(begun.elapsed() < SOON, "{kind:?}: {:?}", begun.elapsed());
    }
    for kind in [Type::FindProviders, Type::SearchValue] {
        let begun = Instant::now();
        assert_eq!(client.dht_stream(lookup(kind, 1)), Ok(vec![]), "{kind:?}");
        let took = begun.elapsed();
        assert!(took < SOON, "{kind:?}: {took:?}");
        assert!(took > Duration::from_millis(500), "{kind:?} did not wait");
    }
    assert_eq!(client.identify().0, node.peer_id());
}

#[test]
fn values_come_before_the_search_is_over() {
    let (node, _puppet) = beside_silence();
    let mut client = node.client();
    let cid = cid(b"own");
    let mut provide = lookup(dht_request::Type::Provide, 1);
    provide.cid = Some(cid.clone().into());
    assert_eq!(client.dht(provide), Err(DEADLINE.into()));

    let mut find = lookup(dht_request::Type::FindProviders, 4);
    find.cid = Some(cid.into());
    let begun = Instant::now();
    client.begin(find).expect("BEGIN");
    let first = client.next_value().expect("a frame").expect("a value");
    let early = begun.elapsed();
    let peer = first.peer.expect("a peer part");
    assert_eq!(peer.id, node.peer_id().to_bytes());
    assert!(client.next_value().expect("a frame").is_none(), "END");
    let whole = begun.elapsed();
    assert!(
        early < Duration::from_secs(2) && early * 2 < whole,
        "{early:?} of {whole:?}"
    );
}

#[test]
fn one_answer_is_enough_when_one_is_asked_for() {
    let (node, _puppet) = beside_silence();
    let neighbour = server();
    join(&node, &neighbour);
    let cid = cid(b"one");
    let mut provide = lookup(dht_request::Type::Provide, 2);
    provide.cid = Some(cid.clone().into());
    // Whether the silent peer makes this late is another matter.
    let _ = neighbour.client().dht(provide);
    let mut find = lookup(dht_request::Type::FindProviders, 60);
    find.cid = Some(cid.into());
    find.count = Some(1);
    let begun = Instant::now();
    let found = node.client().dht_stream(find).expect("found");
    assert_eq!(found.len(), 1);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// Better than Go, whose query goes on until the next value or the deadline.
#[test]
fn a_client_that_leaves_takes_its_query_with_it() {
    let (node, puppet) = beside_silence();
    // Everything that is opened once and kept.
    let mut first = node.client();
    let _ = first.dht_stream(lookup(dht_request::Type::FindProviders, 1));
    let before = node.fds();
    let clients: Vec<_> = (0..20)
        .map(|number| {
            let mut client = node.client();
            let kinds = [
                dht_request::Type::FindProviders,
                dht_request::Type::SearchValue,
                dht_request::Type::GetValue,
                dht_request::Type::FindPeer,
            ];
            client
                .send(&around(lookup(kinds[number % kinds.len()], 60)))
                .expect("ask");
            client
        })
        .collect();
    let asked = || {
        let asked = puppet.asked();
        let values = asked.iter().filter(|asked| asked.kind() == Kind::GetValue);
        values.count()
    };
    assert!(eventually(PATIENCE, || asked() > 0), "nobody was asked");
    let served = eventually(PATIENCE, || node.fds() >= before + clients.len());
    assert!(served, "not all clients are served");
    drop(clients);
    let gone = eventually(SOON, || node.fds() <= before);
    assert!(gone, "{} descriptors, {before} before", node.fds());
}
