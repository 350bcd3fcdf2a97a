//! Fuzz target: what pubsub peers send.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message as _;

use super::{
    Signing,
    message::{self, Validator, pb},
    router::{PeerKind, Router},
};
use crate::{events::Events, fuzz_input::Input, memory::Ledger};

/// RPCs of two peers in turn, on a router with one subscriber. They are read as the protobuf
/// library reads them, and once the peers have gone nothing of them is left.
pub(crate) fn rpcs(data: &[u8]) {
    let mut input = Input::new(data);
    let flood = input.byte().is_multiple_of(4);
    let router = Arc::new(Router::new(flood, Signing::Strict, Events::default()));
    let account = Ledger::new(0).client();
    let subscription = router.subscriptions().add(b"t", &account);
    assert!(subscription.is_ok(), "the first subscription");
    router.update_subscription(b"t");
    let peers = [PeerId::random(), PeerId::random()];
    for peer in peers {
        assert!(
            router.new_peer(peer, &Ledger::new(0).client()).is_some(),
            "a new peer"
        );
        let kind = if flood {
            PeerKind::Floodsub
        } else {
            PeerKind::Gossipsub11
        };
        router.add_peer(peer, kind, false);
    }
    let mut topics = Vec::new();
    for peer in peers.into_iter().cycle() {
        if input.is_empty() {
            break;
        }
        receive(
            &router,
            peer,
            &Bytes::copy_from_slice(input.chunk()),
            &mut topics,
        );
        router.heartbeat();
    }
    for peer in peers {
        assert!(router.remove_peer(peer, || false), "a peer that has gone");
    }
    for topic in topics {
        assert_eq!(router.peers(&topic), [], "nobody is left on {topic:?}");
    }
}

fn receive(router: &Router, peer: PeerId, rpc: &Bytes, topics: &mut Vec<Vec<u8>>) {
    let fields: Vec<_> = message::fields(rpc).collect();
    if let Ok(whole) = pb::Rpc::decode(rpc.clone()) {
        let count = |wanted: u32| {
            let same = |field: &&Result<(u32, Bytes), _>| matches!(field, Ok((number, _)) if *number == wanted);
            fields.iter().filter(same).count()
        };
        assert!(fields.iter().all(Result::is_ok), "all fields are read");
        assert_eq!(count(1), whole.subscriptions.len());
        assert_eq!(count(2), whole.publish.len());
        assert_eq!(count(3) > 0, whole.control.is_some());
    }
    for (number, value) in fields.into_iter().map_while(Result::ok) {
        match number {
            1 => {
                if let Ok(change) = pb::SubOpts::decode(value) {
                    topics.push(message::topic_name(change.topic_id.as_ref()).to_vec());
                    router.on_subscription(peer, &change);
                }
            }
            2 => {
                if let Ok(raw) = pb::Message::decode(value) {
                    validate(&raw);
                }
            }
            3 => {
                if let Ok(control) = pb::Control::decode(value) {
                    router.on_control(peer, &control);
                }
            }
            _ => {}
        }
    }
}

/// What is taken as signed is signed, and is passed on as it came.
fn validate(raw: &pb::Message) {
    let topic: Arc<[u8]> = message::topic_name(raw.topic.as_ref()).into();
    for signing in [Signing::Strict, Signing::Lax, Signing::Off] {
        let Ok(message) = Validator::new(signing).validate(raw, topic.clone()) else {
            continue;
        };
        match signing {
            Signing::Strict => assert!(raw.signature.is_some()),
            Signing::Off => assert!(raw.signature.is_none()),
            Signing::Lax => {}
        }
        let again = pb::Message::decode(message.body().clone());
        assert!(
            again.is_ok_and(|again| again == *raw),
            "passed on as it came"
        );
    }
}
