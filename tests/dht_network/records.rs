//! Records: stored at the closest peers, found from every node, and never replaced by an older or
//! invalid one.

use libp2p::identity::Keypair;

use super::*;
use crate::support::dht::{
    EMPTY_TABLE, NOT_FOUND, fresh_public_key_record, ipns_record, public_key_record, rsa_key,
};
use crate::support::kad::{Kind, Puppet, Reply, admitted, polite};
use crate::support::{PATIENCE, eventually};

#[test]
fn a_public_key_put_on_one_is_read_on_each_other() {
    let daemons: [Daemon; 5] = star();
    let [hub, a, ..] = &daemons;
    let records = [public_key_record(&rsa_key()), fresh_public_key_record()];
    for (at, (key, value)) in [a, hub].into_iter().zip(&records) {
        at.client().put_value(key, value).expect("PUT_VALUE");
        for daemon in &daemons {
            assert_eq!(daemon.client().get_value(key).as_ref(), Ok(value));
            assert_eq!(daemon.client().search_value(key), Ok(vec![value.clone()]));
        }
    }
}

#[test]
fn clients_put_and_get_without_serving() {
    let [hub, other] = star();
    let (a, b) = (client_mode(), client_mode());
    a.connect_to(&hub);
    b.connect_to(&other);
    for (node, neighbour) in [(&a, &hub), (&b, &other)] {
        node.client().await_table(&[neighbour.peer_id()]);
    }
    let (key, value) = fresh_public_key_record();
    a.client().put_value(&key, &value).expect("PUT_VALUE");
    assert_eq!(b.client().get_value(&key), Ok(value));
}

#[test]
fn what_does_not_belong_under_a_key_is_refused() {
    let [a, b] = star();
    let (key, value) = fresh_public_key_record();
    let (_, other) = fresh_public_key_record();
    let refusal = |key: &[u8], value: &[u8]| {
        let refused = a.client().put_value(key, value);
        assert_eq!(b.client().get_value(key), Err(NOT_FOUND.into()));
        refused.expect_err("refused")
    };
    assert_eq!(refusal(b"/123/456", b"456"), "invalid record keytype");
    assert_eq!(refusal(b"no namespace", b"456"), "invalid record keytype");
    assert_eq!(
        refusal(&key, &other),
        "public key does not match storage key"
    );
    assert!(refusal(b"/pk/nonsense", &value).starts_with("key did not contain valid multihash"));
}

#[test]
fn an_empty_table_keeps_a_value_here_and_says_that_nobody_else_has_it() {
    let node = server();
    let (key, value) = fresh_public_key_record();
    assert_eq!(node.client().get_value(&key), Err(NOT_FOUND.into()));
    assert_eq!(node.client().search_value(&key), Ok(vec![]));
    let put = node.client().put_value(&key, &value);
    assert_eq!(put, Err(EMPTY_TABLE.into()));
    assert_eq!(node.client().get_value(&key).as_ref(), Ok(&value));
    assert_eq!(node.client().search_value(&key), Ok(vec![value.clone()]));
    // Others read it as soon as there are any.
    let other = server();
    join(&node, &other);
    assert_eq!(other.client().get_value(&key), Ok(value));
}

#[test]
fn a_newer_record_wins_everywhere_and_an_older_one_is_refused() {
    let daemons: [Daemon; 4] = star();
    let [_, a, b, _] = &daemons;
    let keypair = Keypair::generate_ed25519();
    let record = |sequence| ipns_record(&keypair, b"/ipfs/somewhere", sequence);
    let (key, first) = record(1);
    let (_, second) = record(2);
    a.client().put_value(&key, &first).expect("PUT_VALUE");
    b.client().put_value(&key, &second).expect("PUT_VALUE");
    for daemon in &daemons {
        assert_eq!(daemon.client().get_value(&key).as_ref(), Ok(&second));
    }
    assert_eq!(
        a.client().put_value(&key, &first),
        Err("can't replace a newer value with an older value".into())
    );
    assert_eq!(a.client().get_value(&key), Ok(second));
}

/// Waits until the puppet is sent PUT_VALUE with this value.
fn assert_given(puppet: &Puppet, value: &[u8]) {
    let given = eventually(PATIENCE, || {
        puppet.asked().iter().any(|asked| {
            let record = asked.record.as_ref();
            asked.kind() == Kind::PutValue && record.is_some_and(|record| record.value == value)
        })
    });
    assert!(given, "the holder was not corrected");
}

#[test]
fn searching_corrects_a_holder_that_has_an_old_record() {
    let keypair = Keypair::generate_ed25519();
    let (key, old) = ipns_record(&keypair, b"/ipfs/old", 1);
    let (_, best) = ipns_record(&keypair, b"/ipfs/new", 2);
    let [node, holder] = star();
    holder.client().put_value(&key, &best).expect("PUT_VALUE");
    let (key_asked, old_answer) = (key.clone(), old.clone());
    let puppet = Puppet::new(admitted(move |own, asked| {
        if asked.kind() == Kind::GetValue {
            Reply::Message(asked.reply().with_record(&key_asked, &old_answer))
        } else {
            polite(own, asked)
        }
    }));
    puppet.join(&node);
    let values = node.client().search_value(&key).expect("SEARCH_VALUE");
    assert_eq!(values.last(), Some(&best));
    assert!(values == [best.clone()] || values == [old, best.clone()]);
    assert_given(&puppet, &best);
}

#[test]
fn getting_gives_the_record_to_a_closest_peer_without_it() {
    let (key, value) = fresh_public_key_record();
    let [node, holder] = star();
    holder.client().put_value(&key, &value).expect("PUT_VALUE");
    let puppet = Puppet::new(polite);
    puppet.join(&node);
    // The node itself was given the record; it is not what is asked here.
    let seeker = client_mode();
    seeker.connect_to(&node);
    seeker
        .client()
        .await_table(&[node.peer_id(), puppet.peer_id()]);
    assert_eq!(seeker.client().get_value(&key).as_ref(), Ok(&value));
    assert_given(&puppet, &value);
}

#[test]
fn a_record_that_does_not_validate_is_never_shown() {
    let keypair = Keypair::generate_ed25519();
    let (key, good) = ipns_record(&keypair, b"/ipfs/good", 1);
    let (_, mut forged) = ipns_record(&keypair, b"/ipfs/good", 9);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let (_, stranger) = ipns_record(&Keypair::generate_ed25519(), b"/ipfs/good", 9);
    let [node, holder] = star();
    holder.client().put_value(&key, &good).expect("PUT_VALUE");
    let lies = [forged, stranger, b"garbage".to_vec(), Vec::new()];
    let puppets = lies.map(|lie| {
        let key = key.clone();
        let puppet = Puppet::new(admitted(move |own, asked| {
            if asked.kind() == Kind::GetValue {
                Reply::Message(asked.reply().with_record(&key, &lie))
            } else {
                polite(own, asked)
            }
        }));
        puppet.join(&node);
        puppet
    });
    let shown = node.client().search_value(&key).expect("SEARCH_VALUE");
    assert_eq!(shown, std::slice::from_ref(&good));
    assert_eq!(node.client().get_value(&key), Ok(good));
    for puppet in puppets {
        assert!(puppet.was_asked(Kind::GetValue), "nobody lied");
    }
}
