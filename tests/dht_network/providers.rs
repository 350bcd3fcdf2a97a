//! Provider records: announced, found, counted.

use super::*;
use crate::support::dht::{EMPTY_TABLE, cid};

#[test]
fn what_one_provides_each_other_finds() {
    let daemons: [Daemon; 5] = star();
    for (number, provider) in daemons.iter().enumerate() {
        let cid = cid(format!("content {number}").as_bytes());
        assert_eq!(daemons[0].client().find_providers(&cid, None), Ok(vec![]));
        provider.client().provide(&cid).expect("PROVIDE");
        for seeker in &daemons {
            let found = seeker.client().find_providers(&cid, None).expect("found");
            let expected = (provider.peer_id(), provider.addrs().to_vec());
            assert_eq!(found, [expected], "from {number}");
        }
    }
}

#[test]
fn a_client_mode_peer_provides_and_is_found() {
    let [hub, other] = star();
    let (a, b) = (client_mode(), client_mode());
    a.connect_to(&hub);
    b.connect_to(&other);
    for (node, neighbour) in [(&a, &hub), (&b, &other)] {
        node.client().await_table(&[neighbour.peer_id()]);
    }
    let cid = cid(b"a client's");
    a.client().provide(&cid).expect("PROVIDE");
    let found = b.client().find_providers(&cid, None).expect("found");
    assert_eq!(found, [(a.peer_id(), a.addrs().to_vec())]);
    // And what was found can be used.
    b.client().connect_peer(a.peer_id(), &found[0].1);
}

#[test]
fn the_same_content_under_both_versions_of_its_cid() {
    let [a, b] = star();
    let version_1 = cid(b"content");
    let multihash = &version_1[2..];
    a.client().provide(multihash).expect("PROVIDE of version 0");
    let found = b.client().find_providers(&version_1, None).expect("found");
    assert_eq!(found.len(), 1);
}

#[test]
fn no_more_providers_than_asked_for_and_each_once() {
    let daemons: [Daemon; 6] = star();
    let cid = cid(b"popular");
    let [seeker, providers @ ..] = &daemons;
    for provider in providers {
        provider.client().provide(&cid).expect("PROVIDE");
    }
    for count in [1, 2, 4] {
        let found = seeker.client().find_providers(&cid, Some(count));
        assert_eq!(
            found.expect("found").len(),
            usize::try_from(count).expect("small")
        );
    }
    // Absent, zero and negative mean 20.
    for count in [None, Some(0), Some(-1), Some(100)] {
        let mut found: Vec<_> = seeker
            .client()
            .find_providers(&cid, count)
            .expect("found")
            .into_iter()
            .map(|(peer, _)| peer)
            .collect();
        let mut expected: Vec<_> = providers.iter().map(Daemon::peer_id).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "count {count:?}");
    }
}

#[test]
fn own_records_come_first() {
    let daemons: [Daemon; 4] = star();
    let cid = cid(b"everybody's");
    for provider in &daemons {
        provider.client().provide(&cid).expect("PROVIDE");
    }
    for seeker in &daemons {
        let found = seeker.client().find_providers(&cid, None).expect("found");
        assert_eq!(found.len(), daemons.len());
        // Any record kept here is an own one; there is no other order to tell them by.
        let one = seeker
            .client()
            .find_providers(&cid, Some(1))
            .expect("found");
        assert_eq!(one[0], found[0]);
        let own = found.iter().find(|(peer, _)| *peer == seeker.peer_id());
        assert_eq!(own.expect("oneself").1, seeker.addrs());
    }
}

#[test]
fn an_empty_table_keeps_the_record_here_and_says_that_nobody_else_has_it() {
    let node = server();
    let cid = cid(b"lonely");
    assert_eq!(node.client().find_providers(&cid, None), Ok(vec![]));
    assert_eq!(node.client().provide(&cid), Err(EMPTY_TABLE.into()));
    let own = (node.peer_id(), node.addrs().to_vec());
    assert_eq!(
        node.client().find_providers(&cid, None),
        Ok(vec![own.clone()])
    );
    let other = server();
    join(&node, &other);
    assert_eq!(other.client().find_providers(&cid, None), Ok(vec![own]));
}

#[test]
fn every_lookup_without_anybody_to_ask_says_so() {
    let node = server();
    let mut client = node.client();
    for peer in [PeerId::random(), node.peer_id()] {
        assert_eq!(client.find_peer(peer), Err(EMPTY_TABLE.into()));
    }
    assert_eq!(client.closest_peers(b"key"), Err(EMPTY_TABLE.into()));
    // The connection goes on taking requests.
    assert_eq!(client.identify().0, node.peer_id());
}
