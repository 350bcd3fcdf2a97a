//! Who signs and what is taken.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::identity::PublicKey;
use rp2pd::wire::pb::PsMessage;

use super::support::raw;
use super::*;

const LAX: &[&str] = &["-pubsubSignStrict=false"];
const UNSIGNED: &[&str] = &["-pubsubSign=false"];
const QUIET: Duration = Duration::from_millis(500);

/// Asserts that `message` is signed by `author`, over the bytes that Go signs.
pub fn assert_signed(message: &PsMessage, author: PeerId) {
    let id = author.to_bytes();
    let key = match &message.key {
        Some(key) => key.to_vec(),
        // An identity multihash: the key follows two bytes.
        None => id[2..].to_vec(),
    };
    let key = PublicKey::try_decode_protobuf(&key).expect("a key");
    assert_eq!(key.to_peer_id(), author);
    let text = [
        b"libp2p-pubsub:".to_vec(),
        raw::bytes(1, message.from.as_ref().expect("an author")),
        raw::bytes(2, message.data.as_ref().expect("data")),
        raw::bytes(3, message.seqno.as_ref().expect("a number")),
        raw::bytes(4, &message.topic_i_ds[0]),
    ]
    .concat();
    let signature = message.signature.as_ref().expect("a signature");
    assert!(key.verify(&text, signature), "the signature is another's");
}

/// Whether a message of `a` reaches a subscriber of `b`.
fn passes(a: &[&str], b: &[&str]) -> Option<PsMessage> {
    let (a, b) = (node(a), node(b));
    let mut subscription = b.subscribe("t");
    a.connect_to(&b);
    await_peer(&a, &b, "t");
    a.publish("t", b"data");
    // Later than the message, on the same way, comes what surely arrives.
    let message = subscription.within(QUIET).ok()?;
    assert_eq!(
        message.from.as_ref().expect("author")[..],
        a.peer_id().to_bytes()
    );
    Some(message)
}

#[test]
fn signed_messages_pass_where_they_are_wanted() {
    for (a, b) in [(&[][..], &[][..]), (&[], LAX), (LAX, &[])] {
        let message = passes(a, b).expect("a message");
        assert!(message.signature.is_some());
    }
    assert!(passes(&[], UNSIGNED).is_none(), "it wants no signatures");
}

#[test]
fn unsigned_messages_pass_where_they_are_wanted() {
    for b in [UNSIGNED, LAX] {
        let message = passes(UNSIGNED, b).expect("a message");
        assert_eq!((message.signature, message.key), (None, None));
        assert_eq!(message.seqno.expect("a number").len(), 8);
    }
    assert!(passes(UNSIGNED, &[]).is_none(), "it wants signatures");
}
