//! Two nodes that know each other.

use std::time::{Duration, Instant};

use super::*;

/// Longest time until each node has the other in its table.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two nodes, each in the other's table.
fn pair() -> (Daemon, Daemon) {
    let (a, b) = (node(), node());
    a.connect_to(&b);
    for (one, other) in [(&a, &b), (&b, &a)] {
        let key = raw::bytes(field::KEY, b"key");
        let known = support::eventually(PATIENCE, || {
            let found = stream(&mut one.client(), verb::GET_CLOSEST_PEERS, from_ref(&key));
            found.is_ok_and(|found| ids(&found) == [other.peer_id()])
        });
        assert!(known, "not in the table");
    }
    (a, b)
}

/// The peers that a stream of raw ids holds.
fn ids(found: &[DhtResponse]) -> Vec<PeerId> {
    let id = |frame: &DhtResponse| {
        assert_eq!(frame.peer, None);
        PeerId::from_bytes(frame.value.as_deref().expect("a value")).expect("a peer id")
    };
    found.iter().map(id).collect()
}

/// The peers that a stream of providers holds.
fn providers(found: &[DhtResponse]) -> Vec<PeerId> {
    let peer = |frame: &DhtResponse| peer_of(frame.peer.as_ref().expect("a peer"));
    found.iter().map(peer).collect()
}

#[test]
fn what_one_provides_the_other_finds() {
    let (a, b) = pair();
    let cid = raw::bytes(field::CID, &cid("theirs"));
    let provided = ask(&mut b.client(), verb::PROVIDE, from_ref(&cid));
    assert_eq!(provided, Ok(Response::default()));
    let mut client = a.client();
    for count in [None, Some(1), Some(0), Some(-1), Some(1000)] {
        let mut fields = vec![cid.clone()];
        fields.extend(count.map(|count| raw::int(field::COUNT, count)));
        let found = stream(&mut client, verb::FIND_PROVIDERS, &fields).expect("providers");
        assert_eq!(providers(&found), [b.peer_id()], "{count:?}");
    }
    // The own record comes first, and is enough for a count of one.
    ask(&mut client, verb::PROVIDE, from_ref(&cid)).expect("PROVIDE");
    let found = stream(&mut client, verb::FIND_PROVIDERS, from_ref(&cid)).expect("providers");
    let mut both = [a.peer_id(), b.peer_id()];
    let mut found = providers(&found);
    both.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, both);
    let one = [cid, raw::int(field::COUNT, 1)];
    let found = stream(&mut client, verb::FIND_PROVIDERS, &one).expect("providers");
    assert_eq!(found.len(), 1);
}

#[test]
fn what_one_puts_the_other_gets() {
    let (a, b) = pair();
    let (key, record) = record();
    let key = raw::bytes(field::KEY, &key);
    let fields = [key.clone(), raw::bytes(field::VALUE, &record)];
    let put = ask(&mut a.client(), verb::PUT_VALUE, &fields);
    assert_eq!(put, Ok(Response::default()));
    let mut client = b.client();
    let found = ask(&mut client, verb::GET_VALUE, from_ref(&key)).expect("the value");
    assert_eq!(value(found), record);
    let found = stream(&mut client, verb::SEARCH_VALUE, &[key]).expect("the value");
    assert!(!found.is_empty());
    for frame in found {
        assert_eq!(frame.value.as_deref(), Some(&record[..]));
    }
}

#[test]
fn a_peer_is_found_with_its_addresses() {
    let (a, b) = pair();
    let peer = raw::bytes(field::PEER, &b.peer_id().to_bytes());
    let found = ask(&mut a.client(), verb::FIND_PEER, &[peer]).expect("the peer");
    let found = found.dht.expect("a dht part");
    assert_eq!(found.r#type(), dht_response::Type::Value);
    assert_eq!(found.value, None);
    let info = found.peer.expect("a peer");
    assert_eq!(peer_of(&info), b.peer_id());
    assert!(!info.addrs.is_empty());
    let known: Vec<Vec<u8>> = b.addrs().iter().map(|addr| addr.to_vec()).collect();
    assert!(info.addrs.iter().all(|addr| known.contains(&addr.to_vec())));
    let stranger = raw::bytes(field::PEER, &PeerId::random().to_bytes());
    let text = refusal(&mut a.client(), verb::FIND_PEER, &[stranger]);
    assert_eq!(text, "routing: not found");
}

#[test]
fn requests_that_wait_are_answered_in_order() {
    let (a, _b) = pair();
    let mut client = a.client();
    let cid = raw::bytes(field::CID, &cid("nobody has it"));
    let providers = raw::frame(&dht(verb::FIND_PROVIDERS, &[cid]));
    let identify = raw::frame(&raw::int(1, 0));
    let one_write = [&identify[..], &providers, &identify, &providers, &identify].concat();
    client.send_raw(&one_write).expect("send");
    for request in 0..5 {
        let answer: Response = client.receive().expect("an answer");
        if request % 2 == 0 {
            assert!(answer.identify.is_some(), "{answer:?}");
            continue;
        }
        assert_eq!(answer.dht, Some(typed(dht_response::Type::Begin)));
        let end: DhtResponse = client.receive().expect("a frame");
        assert_eq!(end, typed(dht_response::Type::End));
    }
}

/// A stream without further values ends at the client's timeout.
#[test]
fn a_peer_that_does_not_answer_costs_no_more_than_the_time_limit() {
    let (a, b) = pair();
    b.pause();
    let started = Instant::now();
    let limit = raw::int(field::TIMEOUT, 1);
    let cid = raw::bytes(field::CID, &cid("nobody has it"));
    let mut client = a.client();
    let found = stream(&mut client, verb::FIND_PROVIDERS, &[cid, limit.clone()]);
    assert_eq!(found, Ok(vec![]));
    let (key, _) = record();
    let key = raw::bytes(field::KEY, &key);
    let found = stream(
        &mut client,
        verb::SEARCH_VALUE,
        &[key.clone(), limit.clone()],
    );
    assert_eq!(found, Ok(vec![]));
    let text = refusal(&mut client, verb::GET_VALUE, &[key, limit]);
    assert_eq!(text, "context deadline exceeded");
    assert!(started.elapsed() < Duration::from_secs(8));
    b.resume();
    assert_open(&mut client);
}

/// A client that has shut down its sending side still receives its answers.
#[test]
fn a_client_that_has_ended_its_side_gets_its_answers() {
    let (a, b) = pair();
    let cid = raw::bytes(field::CID, &cid("theirs"));
    ask(&mut b.client(), verb::PROVIDE, from_ref(&cid)).expect("PROVIDE");
    let mut client = a.client();
    client
        .send_raw(&raw::frame(&dht(verb::FIND_PROVIDERS, &[cid])))
        .expect("send");
    client.pipe.socket.shutdown_write().expect("end this side");
    let begin = answer(&mut client).expect("BEGIN");
    assert_eq!(begin.dht, Some(typed(dht_response::Type::Begin)));
    let found: DhtResponse = client.receive().expect("a frame");
    assert_eq!(providers(&[found]), [b.peer_id()]);
    let end: DhtResponse = client.receive().expect("a frame");
    assert_eq!(end, typed(dht_response::Type::End));
}

#[test]
fn a_report_tells_the_table_and_what_is_held() {
    let (a, b) = pair();
    let cid = raw::bytes(field::CID, &cid("reported"));
    ask(&mut b.client(), verb::PROVIDE, from_ref(&cid)).expect("PROVIDE");
    a.signal(rustix::process::Signal::USR1);
    let table = "DHT Routing Table:\nbucket ";
    for part in [
        table,
        &b.peer_id().to_base58(),
        "\nrecords: 0, bytes: 0, evicted: 0\n",
        "\nproviders: 1, bytes: ",
        "\nqueries under way: 0, requests answered: ",
    ] {
        let told = || a.stderr().contains(part);
        assert!(support::eventually(PATIENCE, told), "{}", a.stderr());
    }
    // What the other announced, and the ping by which it knows that it was heard.
    assert!(!a.stderr().contains("requests answered: 0"));
}
